package rules

import (
	"time"

	"github.com/expr-lang/expr/ast"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// Local time is what the clocks on the wall of a zone show at the payment's event
// time. On the days when they are changed, an hour that is left out has no
// payments, and one that comes twice has those of both.

// moment is a time on the clock of some zone.
type moment struct {
	weekday int64 // 1, Monday, to 7
	minute  int64 // of the day, 0 to 1439
}

// momentOf reads the clock of a zone.
func momentOf(t time.Time, zone *time.Location) moment {
	t = t.In(zone)
	return moment{int64(t.Weekday()+6)%7 + 1, int64(t.Hour()*60 + t.Minute())}
}

// hourOf and weekdayOf read the clock of a zone as hour and weekday show it.
func hourOf[E any](read func(*E) moment) term[E] {
	t := integerTerm(false, func(e *E) (int64, bool) { return read(e).minute / 60, true })
	t.bounds = &bounds{"hour", 0, 23}
	return t
}

func weekdayOf[E any](read func(*E) moment) term[E] {
	t := integerTerm(false, func(e *E) (int64, bool) { return read(e).weekday, true })
	t.bounds = &bounds{"weekday, Monday to Sunday,", 1, 7}
	return t
}

// local compiles hour("Europe/Berlin"), weekday("Europe/Berlin") and
// time_between("22:00", "06:00"), which may name a zone too.
func (c *compiler[E]) local(n ast.Node, name string, arguments []ast.Node) term[E] {
	if c.lang.clock == nil {
		return c.problem(c.span(n), "ask in the rule that reads the feature", "there is no local time here: where and share look at one event")
	}
	var of, zone []ast.Node // the times, and the zone if there is one
	if name == "time_between" {
		of, zone = arguments[:2], arguments[2:]
	} else {
		zone = arguments
	}
	ok := true
	minutes := make([]int64, len(of))
	for i, a := range of {
		var good bool
		minutes[i], good = c.timeOfDay(a)
		ok = ok && good
	}
	location := c.lang.zone
	switch {
	case len(zone) == 1:
		var good bool
		location, good = c.timeZone(name, zone[0])
		ok = ok && good
	case location == nil:
		return c.problem(c.span(n), `write time_zone in policy.yaml, or name the zone: time_between("22:00", "06:00", "Asia/Shanghai")`, "%s is local time, and the policy has no time_zone", name)
	}
	if !ok {
		return term[E]{}
	}
	c.used[name] = true
	read := c.lang.clock(location)
	switch name {
	case "hour":
		return hourOf(read)
	case "weekday":
		return weekdayOf(read)
	}
	if minutes[0] == minutes[1] {
		return c.problem(c.span(n), "leave it out to mean the whole day", "no time is between %s and itself", arguments[0])
	}
	return truthTerm(between(read, minutes[0], minutes[1]))
}

// between is true from one minute of the day until before another, over midnight
// where the first is the later one.
func between[E any](read func(*E) moment, from, to int64) func(*E) window.Truth {
	if from < to {
		return func(e *E) window.Truth {
			m := read(e).minute
			return window.TruthOf(from <= m && m < to)
		}
	}
	return func(e *E) window.Truth {
		m := read(e).minute
		return window.TruthOf(from <= m || m < to)
	}
}

// timeOfDay reads "22:00" as minutes since midnight.
func (c *compiler[E]) timeOfDay(n ast.Node) (int64, bool) {
	const usage = `write hours and minutes, from "00:00" (midnight) to "23:59"`
	s, ok := n.(*ast.StringNode)
	if !ok {
		c.problem(c.span(n), usage, "time_between needs times of day in quotes")
		return 0, false
	}
	t, err := time.Parse("15:04", s.Value)
	if err != nil || len(s.Value) != len("15:04") {
		c.problem(c.span(n), usage, "%s is not a time of day", s.Value)
		return 0, false
	}
	return int64(t.Hour()*60 + t.Minute()), true
}

// timeZone reads the name of a zone.
func (c *compiler[E]) timeZone(name string, n ast.Node) (*time.Location, bool) {
	const usage = `write a name of the IANA database in quotes, such as "Europe/Berlin"`
	s, ok := n.(*ast.StringNode)
	if !ok {
		c.problem(c.span(n), usage, "%s needs the name of a time zone in quotes", name)
		return nil, false
	}
	zone, ok := zoneNamed(s.Value)
	if !ok {
		c.problem(c.span(n), usage, "there is no time zone %q", s.Value)
	}
	return zone, ok
}

// zoneNamed finds a time zone of the IANA database. The zone of the machine is
// none: a ruleset means the same wherever it is loaded.
func zoneNamed(name string) (*time.Location, bool) {
	zone, err := time.LoadLocation(name)
	return zone, err == nil && name != "" && name != "Local"
}
