// Package broker is everything that Sluice says to Kafka: group membership, fetching a lane's partition, publishing
// behind a fence, committing, and the embedded broker of the sandbox.
//
// It rests on kafka-go's Client for connections, routing, TLS and SASL, and reads and writes record batches itself,
// because the hot path must neither allocate per record nor lose sight of offsets: see batch.go, decode.go, fetch.go.
// Why two members can never both publish on one partition is argued at the top of fence.go.
//
// Every call that talks to the broker retries what may heal (a leader that moves, a cut connection, replicas that lag)
// with backoff and jitter until its context ends; the error then names the last cause. What cannot heal (a wrong
// password, a refused certificate, a missing right) is returned at once.
package broker
