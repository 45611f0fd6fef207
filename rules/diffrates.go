package rules

import (
	"fmt"
	"math/big"
)

// rates says what amounts are worth otherwise.
func (d *differ) rates() {
	from, to := d.from.rateTexts(), d.to.rateTexts()
	for _, code := range keysOfBoth(from, to) {
		place := d.to.files[ratesFile].value("rates").value(code)
		c := about(ChangeActs, "rate", code, place)
		x, okX := from[code]
		y, okY := to[code]
		switch {
		case !okX:
			c.Change, c.To = wasAdded, y.plain()
			d.say(c, "added: %s %s; before, payments in it got no_rate", c.To, d.to.set.policy.BaseCurrency)
		case !okY:
			c.Change, c.From = wasRemoved, x.plain()
			d.say(c, "removed; it was %s %s, and payments in it get no_rate: %s", c.From, d.from.set.policy.BaseCurrency, d.to.set.policy.NoRate)
		case x.plain() != y.plain():
			old, okOld := x.decimal("")
			now, okNow := y.decimal("")
			if !okOld || !okNow || old.Cmp(now) == 0 {
				continue
			}
			c.From, c.To = x.plain(), y.plain()
			share, _ := now.Sub(now.Quo(now, old), big.NewRat(1, 1)).Float64()
			c.Effect = fmt.Sprintf("%+.3g %%", share*100)
			d.say(c, "from %s to %s", c.From, c.To)
		}
	}
}

// rateTexts are the rates as the file has them, by currency.
func (w *wording) rateTexts() map[string]node {
	out := map[string]node{}
	if n := w.files[ratesFile].value("rates"); n.ast != nil {
		for _, e := range n.entries("") {
			out[e.key] = e.value
		}
	}
	return out
}
