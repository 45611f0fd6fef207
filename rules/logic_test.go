package rules

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sluice-risk/sluice/pipeline/window"
)

// narrow makes conditions of few parts over few values, so that they often exclude
// or imply each other.
func (g generator) narrow(depth int) string {
	compare := g.of("==", "!=", "<", "<=", ">", ">=")
	if depth > 0 {
		switch g.IntN(4) {
		case 0:
			return fmt.Sprintf("(%s and %s)", g.narrow(depth-1), g.narrow(depth-1))
		case 1:
			return fmt.Sprintf("(%s or %s)", g.narrow(depth-1), g.narrow(depth-1))
		case 2:
			return fmt.Sprintf("not (%s)", g.narrow(depth-1))
		}
	}
	switch g.IntN(8) {
	case 0:
		return fmt.Sprintf("payer.country %s %q", g.of("==", "!="), g.of("CN", "JP"))
	case 1:
		return "payer.country " + g.of(`in ["CN", "JP"]`, `in ["JP"]`, `not in ["CN", "HK"]`)
	case 2:
		return "card.a_1h in " + g.of("0..2", "1..4", "2..2")
	case 3:
		return g.of("has(card.a_1h)", "has(payer.country)", "card.f")
	case 4:
		return fmt.Sprintf("amount %s %s", compare, g.of("CNY(6.25)", "CNY(0)", "CNY(12.5)"))
	case 5:
		return fmt.Sprintf("card.share_1h %s %s", compare, g.of("0.25", "0.5", "1"))
	case 6:
		return fmt.Sprintf("%s %s card.a_1h", g.of("0", "1", "2.5"), compare)
	}
	return fmt.Sprintf("card.a_1h %s %d", compare, g.IntN(4)-1)
}

// What is said of conditions without a payment is true of payments.
func TestWhatIsSaidOfConditionsHoldsForEveryPayment(t *testing.T) {
	set, err := ruleFor("card.a_1h > 0")
	if err != nil {
		t.Fatal(err)
	}
	_, f := assemble(set.files, &report{})
	random := rand.New(rand.NewPCG(7, 8))
	g := generator{random}
	compiled := func(text string) (func(*facts) window.Truth, cases, cases) {
		src := f.written[0].when
		src.report, src.text, src.whole = &report{}, text, text
		c, ok := compile(f.lang, src)
		if !ok {
			return nil, nil, nil
		}
		when, ok := casesOf(f.lang, src, false)
		unless, ok2 := casesOf(f.lang, src, true)
		if !ok || !ok2 {
			return nil, nil, nil
		}
		return c.eval, when, unless
	}
	never := func(cs cases) bool {
		for _, one := range cs {
			if _, _, dead := clash(one); !dead {
				return false
			}
		}
		return true
	}
	var implied, dead, always int
	for range 6000 {
		first, second := g.narrow(2), g.narrow(1)
		a, when, unless := compiled(first)
		b, others, _ := compiled(second)
		if a == nil || b == nil {
			continue
		}
		implies, isDead, isAlways := when.imply(others), never(when), never(unless)
		if !implies && !isDead && !isAlways {
			continue
		}
		for range 200 {
			in, _ := randomInput(random, false)
			var x facts
			x.reset(in)
			is := a(&x)
			if implies && is == window.True && b(&x) != window.True {
				t.Fatalf("%s is said to imply %s: %v %v", first, second, in.Features, in.Tx.Payer.Country)
			}
			if isDead && is == window.True {
				t.Fatalf("%s is said to be never true: %v %v", first, in.Features, in.Tx.Payer.Country)
			}
			if isAlways && is == window.False {
				t.Fatalf("%s is said to be never false: %v %v", first, in.Features, in.Tx.Payer.Country)
			}
		}
		for n, count := range map[*int]bool{&implied: implies && !isDead, &dead: isDead, &always: isAlways} {
			if count {
				*n++
			}
		}
	}
	if implied < 100 || dead < 100 || always < 50 {
		t.Errorf("%d implied, %d never, %d always: the test proves little", implied, dead, always)
	}
}
