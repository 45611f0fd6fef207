package main

import (
	"math"
	"slices"
	"syscall"
	"time"
)

// cost is what a number of transactions took.
type cost struct {
	n    int
	wall time.Duration
	cpu  time.Duration // of this process
	// settle is the processor time of noting the verdicts, which is in none of the others.
	settle time.Duration
	peer   time.Duration // of Redis, where one took part
}

// micros is a duration's share of each transaction in microseconds.
func (c *cost) micros(d time.Duration) float64 { return d.Seconds() * 1e6 / float64(c.n) }

// watch adds what work takes.
func (c *cost) watch(work func() error) error {
	began, before := time.Now(), cpuTime()
	err := work()
	c.wall, c.cpu = c.wall+time.Since(began), c.cpu+cpuTime()-before
	return err
}

// cpuTime is what this process has used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peakRSS is the most memory that this process has had, in bytes.
func peakRSS() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Maxrss) * 1024
}

// medianOf is the median of one figure of all rounds, NaN of none.
func medianOf(rounds []cost, figure func(*cost) float64) float64 {
	var v []float64
	for i := range rounds {
		v = append(v, figure(&rounds[i]))
	}
	slices.Sort(v)
	switch n := len(v); {
	case n == 0:
		return math.NaN()
	case n%2 == 0:
		return (v[n/2-1] + v[n/2]) / 2
	default:
		return v[n/2]
	}
}

func wallMicros(c *cost) float64   { return c.micros(c.wall) }
func cpuMicros(c *cost) float64    { return c.micros(c.cpu) }
func perSecond(c *cost) float64    { return float64(c.n) / c.wall.Seconds() }
func perCore(c *cost) float64      { return float64(c.n) / c.cpu.Seconds() }
func settleMicros(c *cost) float64 { return c.micros(c.settle) }
func peerMicros(c *cost) float64   { return c.micros(c.peer) }
