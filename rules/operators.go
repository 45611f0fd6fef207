package rules

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/sluice-risk/sluice/pipeline/window"
)

// The closures behind the operators. All share one rule: an operand that is
// absent makes the result absent, or Unknown; only and, or, ??, has and the
// ternary look closer.

// overflow is what integer arithmetic panics with when its result does not fit:
// the rule fails, and no number wraps.
type overflow struct{}

func (overflow) Error() string { return "integer overflow" }

func and[E any](a, b func(*E) window.Truth) func(*E) window.Truth {
	return func(e *E) window.Truth {
		switch a(e) {
		case window.False:
			return window.False
		case window.True:
			return b(e)
		}
		if b(e) == window.False {
			return window.False
		}
		return window.Unknown
	}
}

func or[E any](a, b func(*E) window.Truth) func(*E) window.Truth {
	return func(e *E) window.Truth {
		switch a(e) {
		case window.True:
			return window.True
		case window.False:
			return b(e)
		}
		if b(e) == window.True {
			return window.True
		}
		return window.Unknown
	}
}

func not[E any](a func(*E) window.Truth) func(*E) window.Truth {
	return func(e *E) window.Truth { return a(e).Not() }
}

// mirrored is the operator with its operands changed over.
var mirrored = map[string]string{"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

// compare returns a op b.
func compare[E any, T cmp.Ordered](op string, a, b func(*E) (T, bool)) func(*E) window.Truth {
	both := func(test func(x, y T) bool) func(*E) window.Truth {
		return func(e *E) window.Truth {
			x, ok := a(e)
			if !ok {
				return window.Unknown
			}
			y, ok := b(e)
			if !ok {
				return window.Unknown
			}
			return window.TruthOf(test(x, y))
		}
	}
	switch op {
	case "==":
		return both(func(x, y T) bool { return x == y })
	case "!=":
		return both(func(x, y T) bool { return x != y })
	case "<":
		return both(func(x, y T) bool { return x < y })
	case "<=":
		return both(func(x, y T) bool { return x <= y })
	case ">":
		return both(func(x, y T) bool { return x > y })
	}
	return both(func(x, y T) bool { return x >= y })
}

// compareTo returns a op c for a constant c: the shape of nearly every clause,
// so each operator has a closure of its own.
func compareTo[E any, T cmp.Ordered](op string, a func(*E) (T, bool), c T) func(*E) window.Truth {
	switch op {
	case "==":
		return func(e *E) window.Truth {
			if x, ok := a(e); ok {
				return window.TruthOf(x == c)
			}
			return window.Unknown
		}
	case "!=":
		return func(e *E) window.Truth {
			if x, ok := a(e); ok {
				return window.TruthOf(x != c)
			}
			return window.Unknown
		}
	case "<":
		return func(e *E) window.Truth {
			if x, ok := a(e); ok {
				return window.TruthOf(x < c)
			}
			return window.Unknown
		}
	case "<=":
		return func(e *E) window.Truth {
			if x, ok := a(e); ok {
				return window.TruthOf(x <= c)
			}
			return window.Unknown
		}
	case ">":
		return func(e *E) window.Truth {
			if x, ok := a(e); ok {
				return window.TruthOf(x > c)
			}
			return window.Unknown
		}
	}
	return func(e *E) window.Truth {
		if x, ok := a(e); ok {
			return window.TruthOf(x >= c)
		}
		return window.Unknown
	}
}

// compareReaders picks the closure by which side is constant.
func compareReaders[E any, T cmp.Ordered](op string, a, b func(*E) (T, bool), aConstant, bConstant bool) func(*E) window.Truth {
	if bConstant {
		if c, ok := b(nil); ok {
			return compareTo(op, a, c)
		}
	}
	if aConstant {
		if c, ok := a(nil); ok {
			return compareTo(mirrored[op], b, c)
		}
	}
	return compare(op, a, b)
}

// sameTruth returns a == b, or a != b where want is false.
func sameTruth[E any](a, b func(*E) window.Truth, want bool) func(*E) window.Truth {
	return func(e *E) window.Truth {
		x, y := a(e), b(e)
		if x == window.Unknown || y == window.Unknown {
			return window.Unknown
		}
		return window.TruthOf((x == y) == want)
	}
}

// compareOriginal compares money in the transaction's own currency with an
// amount: of another currency, it is unknown.
func compareOriginal[E any](op string, a term[E], c amount) func(*E) window.Truth {
	minor := compareTo(op, a.integer, c.minor)
	currency := a.currency
	return func(e *E) window.Truth {
		if currency(e) != c.currency {
			return window.Unknown
		}
		return minor(e)
	}
}

// compareIdentifier returns whether an identifier that a window keeps is (want)
// or is not the one that the transaction names.
func compareIdentifier[E any](kept func(*E) (uint64, bool), own func(*E, window.Kind) uint64, k window.Kind, want bool) func(*E) window.Truth {
	return func(e *E) window.Truth {
		x, ok := kept(e)
		if !ok {
			return window.Unknown
		}
		y := own(e, k)
		if y == 0 {
			return window.Unknown
		}
		return window.TruthOf((x == y) == want)
	}
}

// integerOperation returns a op b for +, - and *.
func integerOperation[E any](op string, a, b func(*E) (int64, bool)) func(*E) (int64, bool) {
	both := func(calculate func(x, y int64) int64) func(*E) (int64, bool) {
		return func(e *E) (int64, bool) {
			x, ok := a(e)
			if !ok {
				return 0, false
			}
			y, ok := b(e)
			if !ok {
				return 0, false
			}
			return calculate(x, y), true
		}
	}
	switch op {
	case "+":
		return both(func(x, y int64) int64 {
			if sum := x + y; (sum > x) == (y > 0) {
				return sum
			}
			panic(overflow{})
		})
	case "-":
		return both(func(x, y int64) int64 {
			if difference := x - y; (difference < x) == (y > 0) {
				return difference
			}
			panic(overflow{})
		})
	}
	return both(func(x, y int64) int64 {
		if x == 0 || y == 0 {
			return 0
		}
		product := x * y
		if product/y != x || x == -1 && y == math.MinInt64 || y == -1 && x == math.MinInt64 {
			panic(overflow{})
		}
		return product
	})
}

// remainder returns a % b; by zero it is absent.
func remainder[E any](a, b func(*E) (int64, bool)) func(*E) (int64, bool) {
	return func(e *E) (int64, bool) {
		x, ok := a(e)
		if !ok {
			return 0, false
		}
		y, ok := b(e)
		if !ok || y == 0 {
			return 0, false
		}
		return x % y, true
	}
}

// floatOperation returns a op b for +, -, * and /; division by zero, and
// whatever else is not a number, is absent.
func floatOperation[E any](op string, a, b func(*E) (float64, bool)) func(*E) (float64, bool) {
	both := func(calculate func(x, y float64) float64) func(*E) (float64, bool) {
		return func(e *E) (float64, bool) {
			x, ok := a(e)
			if !ok {
				return 0, false
			}
			y, ok := b(e)
			if !ok {
				return 0, false
			}
			v := calculate(x, y)
			return v, v == v
		}
	}
	switch op {
	case "+":
		return both(func(x, y float64) float64 { return x + y })
	case "-":
		return both(func(x, y float64) float64 { return x - y })
	case "*":
		return both(func(x, y float64) float64 { return x * y })
	}
	return both(func(x, y float64) float64 {
		if y == 0 {
			return math.NaN()
		}
		return x / y
	})
}

// extreme returns the smallest (or largest) of some readings; one that is
// absent makes the result absent.
func extreme[E any, T cmp.Ordered](readers []func(*E) (T, bool), largest bool) func(*E) (T, bool) {
	return func(e *E) (T, bool) {
		best, ok := readers[0](e)
		for i := 1; ok && i < len(readers); i++ {
			var v T
			if v, ok = readers[i](e); ok && (v > best) == largest {
				best = v
			}
		}
		return best, ok
	}
}

// absolute returns the value without its sign.
func absolute[E any](a term[E]) term[E] {
	if a.kind == float {
		return floatTerm(a.money, func(e *E) (float64, bool) {
			v, ok := a.float(e)
			return math.Abs(v), ok
		})
	}
	return integerTerm(a.money, func(e *E) (int64, bool) {
		v, ok := a.integer(e)
		if v < 0 {
			v = negate(v)
		}
		return v, ok
	})
}

// negative returns the value with the other sign.
func negative[E any](a term[E]) term[E] {
	if a.kind == float {
		return floatTerm(a.money, func(e *E) (float64, bool) {
			v, ok := a.float(e)
			return -v, ok
		})
	}
	return integerTerm(a.money, func(e *E) (int64, bool) {
		v, ok := a.integer(e)
		return negate(v), ok
	})
}

func negate(v int64) int64 {
	if v == math.MinInt64 {
		panic(overflow{})
	}
	return -v
}

// textOperation returns a op b for contains, startsWith and endsWith.
func textOperation[E any](op string, a, b func(*E) (string, bool)) func(*E) window.Truth {
	test := map[string]func(string, string) bool{
		"contains": strings.Contains, "startsWith": strings.HasPrefix, "endsWith": strings.HasSuffix}[op]
	return func(e *E) window.Truth {
		x, ok := a(e)
		if !ok {
			return window.Unknown
		}
		y, ok := b(e)
		if !ok {
			return window.Unknown
		}
		return window.TruthOf(test(x, y))
	}
}

// oneOf returns whether a is among some constants.
func oneOf[E any, T comparable](a func(*E) (T, bool), among []T) func(*E) window.Truth {
	if len(among) <= 8 { // below that, looking at each is faster than hashing
		return func(e *E) window.Truth {
			if x, ok := a(e); ok {
				return window.TruthOf(slices.Contains(among, x))
			}
			return window.Unknown
		}
	}
	set := make(map[T]struct{}, len(among))
	for _, v := range among {
		set[v] = struct{}{}
	}
	return func(e *E) window.Truth {
		x, ok := a(e)
		if !ok {
			return window.Unknown
		}
		_, found := set[x]
		return window.TruthOf(found)
	}
}

// contained returns whether a text is in a list of the transaction.
func contained[E any](a func(*E) (string, bool), in func(*E) ([]string, bool)) func(*E) window.Truth {
	return func(e *E) window.Truth {
		x, ok := a(e)
		if !ok {
			return window.Unknown
		}
		all, ok := in(e)
		if !ok {
			return window.Unknown
		}
		return window.TruthOf(slices.Contains(all, x))
	}
}

// orElse returns a, or b where a is absent.
func orElse[E, T any](a, b func(*E) (T, bool)) func(*E) (T, bool) {
	return func(e *E) (T, bool) {
		if v, ok := a(e); ok {
			return v, true
		}
		return b(e)
	}
}

// either returns a where the condition is true, b where it is false, and
// nothing where it is unknown.
func either[E, T any](condition func(*E) window.Truth, a, b func(*E) (T, bool)) func(*E) (T, bool) {
	return func(e *E) (v T, ok bool) {
		switch condition(e) {
		case window.True:
			return a(e)
		case window.False:
			return b(e)
		}
		return v, false
	}
}

// bool readers of a truth, for orElse and either.
func truthReader[E any](a func(*E) window.Truth) func(*E) (window.Truth, bool) {
	return func(e *E) (window.Truth, bool) {
		v := a(e)
		return v, v != window.Unknown
	}
}

func truthOfReader[E any](a func(*E) (window.Truth, bool)) func(*E) window.Truth {
	return func(e *E) window.Truth {
		if v, ok := a(e); ok {
			return v
		}
		return window.Unknown
	}
}
