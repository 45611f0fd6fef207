package pipeline

import "github.com/sluice-risk/sluice/pipeline/broker"

// Connect prepares a connection to the cluster of the settings, for who looks at the topics beside a gate. It does not
// talk to the broker yet. onRetry, if given, is told of every call that is about to be tried again.
func (c *Config) Connect(onRetry func(what string, err error)) (*broker.Conn, error) {
	kafka := c.brokerConfig()
	kafka.OnRetry = onRetry
	return broker.Open(kafka)
}
