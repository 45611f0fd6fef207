// Package payment is the vocabulary of Sluice: what a payment service sends
// (Transaction), what became of it later (Outcome), what a reviewer did
// (Review), what people change at run time (Control), and what Sluice answers
// (Decision). It decodes the first four
// strictly, with one Reason of a closed set for each way to be wrong, and
// encodes the last in one canonical order of fields.
//
// It imports nothing else of this module: every other package speaks in its words.
package payment
