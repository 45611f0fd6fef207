// Package traffic makes synthetic payments for the sandbox, the benchmarks and
// the tests: people with habits in all the scenes of a payment platform,
// labelled fraud among them, and outcomes that follow later, as in life. The
// same Config gives the same bytes. It also reads and writes such streams as
// JSON Lines.
//
// The stream merges three sources by event time: the arrivals of genuine
// payments (a Poisson process whose rate is Config.Rate), transactions that
// were planned earlier (the steps of a fraud, a retry, a refund), and outcomes
// that fall due. Nothing here reads a clock or iterates over a map.
package traffic
