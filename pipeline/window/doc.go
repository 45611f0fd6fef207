// Package window keeps the event logs of entities and folds them into features:
// sliding-window values that are exact as of each payment. DESIGN.md beside this
// file is where to begin.
package window
