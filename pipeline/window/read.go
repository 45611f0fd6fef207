package window

import (
	"math"
	"strings"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// read fills the slots of all cells for the transaction whose event has this
// index, with the fold of entity n at its moment.
func (f *folder) read(n uint32, own uint64, it *Item) {
	fd := f.foldOf(n)
	for i := range f.cells {
		c := &f.cells[i]
		if w := f.words(n)[c.state:]; c.Aggregate == Count { // most features
			it.Values[c.slot].SetInt(int64(w[0]))
		} else if c.Aggregate == Sum && w[1] == 0 && w[0] <= math.MaxInt64 {
			it.Values[c.slot].SetInt(int64(w[0]))
		} else {
			it.Values[c.slot] = f.value(n, fd, c, own, it)
		}
	}
	if fd.tiles > 0 {
		f.readResolution(n, fd, it)
	}
}

func (f *folder) value(n uint32, fd *fold, c *cell, own uint64, it *Item) payment.Value {
	w := f.words(n)[c.state:]
	switch c.Aggregate {
	case Count:
		return payment.IntValue(int64(w[0]))
	case Sum:
		if w[1] != 0 || w[0] > math.MaxInt64 {
			return payment.Value{} // more money than 2^63-1 minor units
		}
		return payment.IntValue(int64(w[0]))
	case Avg:
		if w[2] == 0 {
			return payment.Value{}
		}
		return payment.FloatValue(mean(w[0:2], w[2]))
	case StdDev:
		return payment.FloatValue(deviation(w[2], w[0:2], w[3:6]))
	case Min, Max:
		if w[1] == 0 {
			return payment.Value{}
		}
		if w[2] != 0 {
			f.findExtreme(n, c, w)
		}
		return payment.IntValue(int64(w[0]))
	case Distinct:
		return payment.IntValue(int64(f.readDistinct(n, c, w, it)))
	case Share:
		if w[0] == 0 {
			return payment.FloatValue(0)
		}
		return payment.FloatValue(float64(w[1]) / float64(w[0]))
	case SinceFirst:
		v, off := f.sinceFirst(n, fd, c)
		it.approximate(c, off)
		return v
	case earlier:
		f.readEarlier(fd, own, it)
		return payment.Value{}
	}
	v, off := f.previous(n, fd, c, own)
	it.approximate(c, off)
	return v
}

// sinceFirst is the time in seconds since the first event of the window, and how
// far the edge of that window may be off.
func (f *folder) sinceFirst(n uint32, fd *fold, c *cell) (v payment.Value, off time.Duration) {
	low, high := f.spans[c.span].bounds(fd.at)
	cursors := f.words(n)[2*c.span:]
	for i := cursors[0]; i < cursors[1]; i++ {
		el := fd.events.at(f.ringsOf(fd), i)
		switch {
		case el.ref&tileBit == 0:
			if f.counts(c, el) {
				return payment.FloatValue(seconds(fd.at - el.time)), 0
			}
		case f.tileOf(el)[c.tile+tileEvents] > 0:
			first := payment.Time(f.tileOf(el)[c.tile+tileFirst])
			if first <= low {
				off = time.Duration(el.time - el.firstTime())
			}
			return payment.FloatValue(seconds(fd.at - first)), off
		}
	}
	return payment.Value{}, f.edge(fd, cursors[1], high)
}

// previous reads the aggregates that look at the events before the transaction,
// and tells how far the edge of their window may be off.
func (f *folder) previous(n uint32, fd *fold, c *cell, own uint64) (v payment.Value, off time.Duration) {
	low, high := f.spans[c.span].bounds(fd.at)
	here := f.h.entryAt(fd.events.at(f.ringsOf(fd), own).number())
	if c.Aggregate == SpeedKMH && !here.located() {
		return payment.Value{}, 0
	}
	if fd.tiles > 0 {
		off = f.edge(fd, f.words(n)[2*c.span+1], high)
	}
	for i := own; i > fd.events.first; i-- {
		el := fd.events.at(f.ringsOf(fd), i-1)
		if el.time <= low {
			break
		}
		if el.time > high {
			continue
		}
		if el.ref&tileBit != 0 {
			in := f.tileOf(el)[c.tile:]
			switch {
			case in[tileEvents] == 0:
				continue
			case c.Aggregate != SinceLast: // which of its events was the last, a tile does not tell
				return payment.Value{}, time.Duration(el.time - low)
			}
			last := payment.Time(in[tileLast])
			if last <= low {
				off = max(off, time.Duration(el.time-el.firstTime()))
			}
			return payment.FloatValue(seconds(fd.at - last)), off
		}
		if !f.counts(c, el) {
			continue
		}
		switch c.Aggregate {
		case SinceLast:
			return payment.FloatValue(seconds(fd.at - el.time)), off
		case Last:
			return f.keep(c.Field.Get(f.view(el))), off
		case SpeedKMH:
			if e := f.h.entryAt(el.number()); e.located() {
				return payment.FloatValue(speed(e, here)), off
			}
		}
	}
	return payment.Value{}, off
}

// keep makes a text that is a view of an entry live on its own.
func (f *folder) keep(v payment.Value) payment.Value {
	if v.Kind() != payment.String {
		return v
	}
	text, ok := f.texts[v.Str()]
	if !ok {
		text = strings.Clone(v.Str())
		if len(f.texts) < 1<<16 { // somebody may be making them up
			f.texts[text] = text
		}
	}
	return payment.StringValue(text)
}

func seconds(t payment.Time) float64 { return float64(t) / 1e9 }

// speed is the great-circle distance between two located events over the time
// between them, in km/h. Two places at one instant are a nanosecond apart: the
// speed is finite and larger than any threshold.
func speed(from, to entry) float64 {
	const degree = 1e-7
	lat1, lon1 := from.place()
	lat2, lon2 := to.place()
	km := Distance(float64(lat1)*degree, float64(lon1)*degree, float64(lat2)*degree, float64(lon2)*degree)
	if km == 0 {
		return 0
	}
	return km / (float64(max(1, to.time()-from.time())) / 3600e9)
}

// Distance is the great-circle distance in km between two places in degrees, by
// the haversine formula (Sinnott 1984) on a sphere of radius 6371 km.
func Distance(lat1, lon1, lat2, lon2 float64) float64 {
	const rad = math.Pi / 180
	sinLat := math.Sin((lat2 - lat1) * rad / 2)
	sinLon := math.Sin((lon2 - lon1) * rad / 2)
	h := sinLat*sinLat + math.Cos(lat1*rad)*math.Cos(lat2*rad)*sinLon*sinLon
	return 2 * 6371 * math.Asin(min(1, math.Sqrt(h)))
}

// Approximation says how a value that is not exact came about.
type Approximation struct {
	Slot       int           // of the value
	Method     string        // "hyperloglog" or "tiles"
	Error      float64       // standard error of a sketch, relative
	Resolution time.Duration // how far an edge of the window may be off
}
