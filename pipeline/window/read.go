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
		it.Values[c.slot] = f.value(n, fd, c, own, it)
	}
	if fd.events.n > 0 && fd.events.at(f.rings, fd.events.first).ref&tileBit != 0 {
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
		count, approximate := f.readDistinct(n, c, w)
		if approximate {
			it.Approximate = append(it.Approximate, Approximation{Slot: c.slot, Method: sketchMethod, Error: sketchError})
		}
		return payment.IntValue(int64(count))
	case Share:
		if w[0] == 0 {
			return payment.FloatValue(0)
		}
		return payment.FloatValue(float64(w[1]) / float64(w[0]))
	case SinceFirst:
		return f.sinceFirst(n, fd, c)
	}
	return f.previous(fd, c, own)
}

// sinceFirst is the time in seconds since the first event of the window.
func (f *folder) sinceFirst(n uint32, fd *fold, c *cell) payment.Value {
	cursors := f.words(n)
	for i := cursors[2*c.span]; i < cursors[2*c.span+1]; i++ {
		el := fd.events.at(f.rings, i)
		if first, ok := f.firstOf(c, el); ok {
			return payment.FloatValue(seconds(fd.at - first))
		}
	}
	return payment.Value{}
}

// previous reads the aggregates that look at the events before the transaction.
func (f *folder) previous(fd *fold, c *cell, own uint64) payment.Value {
	low, high := f.spans[c.span].bounds(fd.at)
	here := f.h.entryAt(fd.events.at(f.rings, own).number())
	if c.Aggregate == SpeedKMH && !here.located() {
		return payment.Value{}
	}
	for i := own; i > fd.events.first; i-- {
		el := fd.events.at(f.rings, i-1)
		if el.time <= low {
			break
		}
		if el.time > high {
			continue
		}
		if el.ref&tileBit != 0 {
			if c.Aggregate == SinceLast && f.tileCounts(c, el) > 0 {
				return payment.FloatValue(seconds(fd.at - el.time))
			}
			continue // which of its events was the last, a tile does not tell
		}
		if !f.counts(c, el) {
			continue
		}
		switch c.Aggregate {
		case SinceLast:
			return payment.FloatValue(seconds(fd.at - el.time))
		case Last:
			return f.keep(c.Field.Get(f.view(el)))
		case SpeedKMH:
			if e := f.h.entryAt(el.number()); e.located() {
				return payment.FloatValue(speed(e, here))
			}
		}
	}
	return payment.Value{}
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

// firstOf is the time of the first event of an elem that takes part in a cell.
func (f *folder) firstOf(c *cell, el *elem) (t payment.Time, ok bool) {
	if el.ref&tileBit != 0 {
		return payment.Time(el.amount), f.tileCounts(c, el) > 0
	}
	return el.time, f.counts(c, el)
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
	Resolution time.Duration // of tiles: how far the window's edge may be off
}
