package rules

import (
	"math"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// The bounds of a place, in degrees.
const maxLatitude, maxLongitude = 90, 180

// kmBetween compiles km_between(lat1, lon1, lat2, lon2): the way along the great
// circle between two places, by window.Distance, as features compute it too. A
// place beyond the bounds is absent.
func (c *compiler[E]) kmBetween(arguments []ast.Node, terms []term[E]) term[E] {
	degrees := make([]func(*E) (float64, bool), len(terms))
	for i, t := range terms {
		what, other, bound := "latitude", ".lon", float64(maxLatitude)
		if i%2 == 1 {
			what, other, bound = "longitude", ".lat", maxLongitude
		}
		if !t.number() || t.money {
			return c.problem(c.span(arguments[i]), "", "km_between needs a %s in degrees, and this is %s", what, t.what())
		}
		if strings.HasSuffix(t.name, other) {
			return c.problem(c.span(arguments[i]), "write the latitude of a place first, then its longitude", "km_between needs a %s here, and this is %s", what, t.name)
		}
		if v, ok := constantValue(t); ok && math.Abs(v) > bound {
			return c.problem(c.span(arguments[i]), "write the latitude of a place first, then its longitude", "a %s is from -%v to %v degrees", what, bound, bound)
		}
		degrees[i] = within(t.asFloat(), bound)
	}
	lat1, lon1, lat2, lon2 := degrees[0], degrees[1], degrees[2], degrees[3]
	return floatTerm(false, func(e *E) (float64, bool) {
		a, ok := lat1(e)
		if !ok {
			return 0, false
		}
		b, ok := lon1(e)
		if !ok {
			return 0, false
		}
		c, ok := lat2(e)
		if !ok {
			return 0, false
		}
		d, ok := lon2(e)
		return window.Distance(a, b, c, d), ok
	})
}

// within reads what is at most so far from zero; anything else is absent.
func within[E any](read func(*E) (float64, bool), bound float64) func(*E) (float64, bool) {
	return func(e *E) (float64, bool) {
		v, ok := read(e)
		return v, ok && math.Abs(v) <= bound
	}
}
