package window

import (
	"math"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// read fills the slots of all cells for the transaction whose elem has this
// index, with the fold of entity n at its moment.
func (f *folder) read(n uint32, own uint64, values []payment.Value) {
	fd := f.foldOf(n)
	for i := range f.cells {
		c := &f.cells[i]
		values[c.slot] = f.value(n, fd, c, own)
	}
}

func (f *folder) value(n uint32, fd *fold, c *cell, own uint64) payment.Value {
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
			f.findExtreme(n, fd, c, w)
		}
		return payment.IntValue(int64(w[0]))
	case Distinct:
		return payment.IntValue(int64(w[tallyUsed]))
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

// findExtreme looks an extreme up again after it has left its window.
func (f *folder) findExtreme(n uint32, fd *fold, c *cell, w []uint64) {
	cursors := f.words(n)
	first := true
	for i := cursors[2*c.span]; i < cursors[2*c.span+1]; i++ {
		el := fd.events.at(f.rings, i)
		if el.ref&basedBit == 0 || !f.passes(c.Where, c.whereBit, c, el, f.now(fd.at)) {
			continue
		}
		if v := uint64(el.amount); first || c.Aggregate == Min && v < w[0] || c.Aggregate == Max && v > w[0] {
			w[0], first = v, false
		}
	}
	w[2] = 0
}

// sinceFirst is the time in seconds since the first event of the window.
func (f *folder) sinceFirst(n uint32, fd *fold, c *cell) payment.Value {
	cursors := f.words(n)
	for i := cursors[2*c.span]; i < cursors[2*c.span+1]; i++ {
		el := fd.events.at(f.rings, i)
		if f.passes(c.Where, c.whereBit, c, el, f.now(fd.at)) {
			return payment.FloatValue(seconds(fd.at - el.time))
		}
	}
	return payment.Value{}
}

// previous reads the aggregates that look at the events before the transaction.
func (f *folder) previous(fd *fold, c *cell, own uint64) payment.Value {
	low, high := f.spans[c.span].bounds(fd.at)
	here := f.h.entry(fd.events.at(f.rings, own).number())
	if c.Aggregate == SpeedKMH && !here.located {
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
		if !f.passes(c.Where, c.whereBit, c, el, f.now(fd.at)) {
			continue
		}
		switch c.Aggregate {
		case SinceLast:
			return payment.FloatValue(seconds(fd.at - el.time))
		case Last:
			f.ev.as(f.h, c, f.h.entry(el.number()), f.now(fd.at))
			return c.Field.Get(&f.ev)
		case SpeedKMH:
			if e := f.h.entry(el.number()); e.located {
				return payment.FloatValue(speed(e, here))
			}
		}
	}
	return payment.Value{}
}

func seconds(t payment.Time) float64 { return float64(t) / 1e9 }

// speed is the great-circle distance between two located events over the time
// between them, in km/h. Two places at one instant are a nanosecond apart: the
// speed is finite and larger than any threshold.
func speed(from, to *entry) float64 {
	const degree = 1e-7
	km := Distance(float64(from.lat)*degree, float64(from.lon)*degree, float64(to.lat)*degree, float64(to.lon)*degree)
	if km == 0 {
		return 0
	}
	return km / (float64(max(1, to.time-from.time)) / 3600e9)
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
