package rules

import (
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// kind is what an expression's value is. Money is a mark on numbers (term.money).
type kind uint8

const (
	invalid    kind = iota // its problem has been reported
	truth                  // true, false or unknown
	integer                // 64 bits
	float                  // 64 bits
	text                   //
	list                   // of texts
	identifier             // the hash of one, as last(...) keeps it
	original               // money in the transaction's own currency, minor units
)

// term is a compiled expression over E: what rules look at, or one event of a
// log. Exactly one of its readers is set, by kind. A reader returns false where
// the value is absent; that of a truth returns Unknown. Readers keep no state.
type term[E any] struct {
	kind  kind
	money bool   // an integer or float in minor units of the base currency
	name  string // of a bare name, "" of everything else

	constant bool    // reads nothing: its reader may be called with nil
	literal  *amount // of an amount such as CNY(10)
	bounds   *bounds // of an integer; nil where it can be any

	truth   func(*E) window.Truth
	integer func(*E) (int64, bool)
	float   func(*E) (float64, bool)
	text    func(*E) (string, bool)
	list    func(*E) ([]string, bool)
	hash    func(*E) (uint64, bool)

	entity   window.Kind               // of an identifier
	names    []window.Kind             // the entities that a text of the transaction names
	reach    func(*E) (float64, bool)  // of a feature: how far back it sees, in seconds
	currency func(*E) payment.Currency // of an original
	refuse   string                    // why the name cannot be used here, "" where it can
}

// amount is a literal amount as it was written.
type amount struct {
	currency payment.Currency
	minor    int64 // of currency
}

func (t term[E]) number() bool { return t.kind == integer || t.kind == float }

// asFloat reads an integer or a float as a float.
func (t term[E]) asFloat() func(*E) (float64, bool) {
	if t.kind == float {
		return t.float
	}
	read := t.integer
	return func(e *E) (float64, bool) {
		v, ok := read(e)
		return float64(v), ok
	}
}

// present tells whether the value is there.
func (t term[E]) present() func(*E) window.Truth {
	switch t.kind {
	case truth:
		return func(e *E) window.Truth { return window.TruthOf(t.truth(e) != window.Unknown) }
	case integer, original:
		return presence(t.integer)
	case float:
		return presence(t.float)
	case text:
		return presence(t.text)
	case list:
		return presence(t.list)
	}
	return presence(t.hash)
}

func presence[E, T any](read func(*E) (T, bool)) func(*E) window.Truth {
	return func(e *E) window.Truth {
		_, ok := read(e)
		return window.TruthOf(ok)
	}
}

// what names the term's kind for people.
func (t term[E]) what() string {
	switch {
	case t.money:
		return "money"
	case t.kind == truth:
		return "a condition"
	case t.number():
		return "a number"
	case t.kind == text:
		return "text"
	case t.kind == list:
		return "a list"
	case t.kind == identifier:
		return "an identifier (" + t.entity.String() + ")"
	}
	return "money in its own currency"
}

func truthTerm[E any](read func(*E) window.Truth) term[E] { return term[E]{kind: truth, truth: read} }

func integerTerm[E any](money bool, read func(*E) (int64, bool)) term[E] {
	return term[E]{kind: integer, money: money, integer: read}
}

func floatTerm[E any](money bool, read func(*E) (float64, bool)) term[E] {
	return term[E]{kind: float, money: money, float: read}
}

func textTerm[E any](read func(*E) (string, bool)) term[E] { return term[E]{kind: text, text: read} }

func constantInteger[E any](v int64) term[E] {
	t := integerTerm(false, func(*E) (int64, bool) { return v, true })
	t.constant = true
	return t
}

func constantFloat[E any](v float64) term[E] {
	t := floatTerm(false, func(*E) (float64, bool) { return v, true })
	t.constant = true
	return t
}

func constantText[E any](v string) term[E] {
	t := textTerm(func(*E) (string, bool) { return v, true })
	t.constant = true
	return t
}

func constantTruth[E any](v window.Truth) term[E] {
	t := truthTerm(func(*E) window.Truth { return v })
	t.constant = true
	return t
}

// valueTerm reads one of the values that windows give: a feature, or a field of
// an event. An absent one, and one of another kind, is absent.
func valueTerm[E any](k payment.ValueKind, money bool, get func(*E) payment.Value) term[E] {
	switch k {
	case payment.Int:
		return integerTerm(money, func(e *E) (int64, bool) {
			v := get(e)
			return v.Int(), v.Kind() == payment.Int
		})
	case payment.Float:
		return floatTerm(money, func(e *E) (float64, bool) {
			v := get(e)
			return v.Float(), v.Kind() == payment.Float
		})
	case payment.Bool:
		return truthTerm(func(e *E) window.Truth {
			v := get(e)
			if v.Kind() != payment.Bool {
				return window.Unknown
			}
			return window.TruthOf(v.Bool())
		})
	case payment.Ref:
		return term[E]{kind: identifier, hash: func(e *E) (uint64, bool) {
			v := get(e)
			return v.Ref(), v.Kind() == payment.Ref
		}}
	}
	return textTerm(func(e *E) (string, bool) {
		v := get(e)
		return v.Str(), v.Kind() == payment.String
	})
}
