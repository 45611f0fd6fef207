// Package oracle holds what a gate has said against what it was sent: from the
// records of the topics and the bytes of the logs alone, by the layout and the
// definitions that are documented, without the code that wrote them. Of the gate
// it uses the decoder of the contract, which has tests of its own, and the hash
// under which identifiers stand in logs.
//
//	log.go, redis.go, journal.go   entries, from the bytes of either store
//	feature.go, value.go           what each feature is by its definition
//	sent.go                        what the input topics hold
//	said.go, evidence.go           what the decisions say of it
//	letters.go                     what the dead letters say of it
//	audit.go                       all of it, as a list of findings
package oracle
