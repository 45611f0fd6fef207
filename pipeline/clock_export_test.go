package pipeline

import "time"

// SetClock lets a gate that does not run yet read a machine's clock that is off
// by as much as ahead says, at each moment.
func (g *Gate) SetClock(ahead func() time.Duration) {
	machine := machineClock()
	g.clock = newClock(func() reading {
		r := machine()
		r.wall = r.wall.Add(ahead())
		return r
	})
	g.Now = g.clock.now
}
