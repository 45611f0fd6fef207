package rules

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// policy says what is decided otherwise where rules do not decide alone. Both
// policies are compared as they are in force: a default that is written out is
// no change.
func (d *differ) policy() {
	a, b := &d.from.set.policy, &d.to.set.policy
	from, to := d.from.files[policyFile], d.to.files[policyFile]
	at := func(keys ...string) Change {
		place := to
		for _, key := range keys {
			if v := place.value(key); v.ast != nil {
				place = v
			}
		}
		return about(ChangeActs, "policy", "", place)
	}
	verdict := func(c Change, key string, x, y payment.Verdict) {
		d.value(c, key, x.String(), y.String(), verdictEffect(x, y))
	}
	length := func(c Change, key string, x, y time.Duration, longer, shorter string) {
		d.value(c, key, formatDuration(x), formatDuration(y), upOr(int(y-x), longer, shorter))
	}

	d.value(at("base_currency"), "base_currency", a.BaseCurrency.String(), b.BaseCurrency.String(), "amounts are in it from now on: look at every rate and threshold")
	d.value(at("time_zone"), "time_zone", a.zone(), b.zone(), "local time, calendar windows and the ends of days move")
	for _, name := range payment.TypeNames() {
		t, _ := payment.ParseType(name)
		length(at("decide_within", name), "decide_within."+name, a.decideWithin[t], b.decideWithin[t], "more time", "less time: more defaults")
	}
	for _, name := range payment.TypeNames() {
		t, _ := payment.ParseType(name)
		x, y := a.whenLate[t], b.whenLate[t]
		d.value(at("when_late", name), "when_late."+name, a.lateWord(x), b.lateWord(y), lateEffect(x, y, a.BaseCurrency == b.BaseCurrency))
	}
	for _, channel := range keysOfBoth(a.cannotHold, b.cannotHold) {
		verdict(at("if_cannot_hold", channel), "if_cannot_hold."+channel, a.IfCannotHold(channel), b.IfCannotHold(channel))
	}
	verdict(at("if_cannot_hold", "default"), "if_cannot_hold.default", a.cannotHoldBy, b.cannotHoldBy)
	for _, one := range []struct {
		name string
		x, y HoldDefault
	}{{"review", a.Hold.Review, b.Hold.Review}, {"step_up", a.Hold.StepUp, b.Hold.StepUp}} {
		length(at("hold", one.name, "for"), "hold."+one.name+".for", one.x.For, one.y.For, "longer", "shorter")
		verdict(at("hold", one.name, "on_expiry"), "hold."+one.name+".on_expiry", one.x.OnExpiry, one.y.OnExpiry)
	}
	d.thresholds(at("thresholds"), a.Thresholds, b.Thresholds)
	length(at("duplicates", "within"), "duplicates.within", a.Duplicates.Within, b.Duplicates.Within, "stricter", "milder")
	verdict(at("duplicates", "verdict"), "duplicates.verdict", a.Duplicates.Verdict, b.Duplicates.Verdict)
	told := at("duplicates", "payer_message")
	told.Group = ChangeTold
	d.messages(told, "duplicates.payer_message", a.Duplicates.told, b.Duplicates.told)
	d.value(at("caps", "block_share"), "caps.block_share", percent(a.Caps.BlockShare), percent(b.Caps.BlockShare),
		upOr(int(1e9*b.Caps.BlockShare)-int(1e9*a.Caps.BlockShare), "more blocks before the cap", "fewer blocks before the cap"))
	length(at("caps", "per"), "caps.per", a.Caps.Per, b.Caps.Per, "", "")
	d.value(at("caps", "min_count"), "caps.min_count", strconv.Itoa(a.Caps.MinCount), strconv.Itoa(b.Caps.MinCount),
		upOr(b.Caps.MinCount-a.Caps.MinCount, "the cap comes later", "the cap comes earlier"))
	verdict(at("caps", "then"), "caps.then", a.Caps.Then, b.Caps.Then)
	d.value(at("channels"), "channels", join(a.Channels), join(b.Channels), "")
	d.value(at("reasons"), "reasons", join(a.Reasons), join(b.Reasons), "")
	verdict(at("no_rate"), "no_rate", a.NoRate, b.NoRate)

	known := []string{"base_currency", "time_zone", "decide_within", "when_late", "if_cannot_hold", "hold", "thresholds", "duplicates", "caps", "channels", "reasons", "no_rate"}
	nested := map[string][]string{"hold": {"review", "step_up"}, "duplicates": {"within", "verdict", "payer_message"}, "caps": {"block_share", "per", "min_count", "then"}}
	for _, key := range keysOf(from, to) { // of a later format: better told than left out
		if !slices.Contains(known, key) {
			d.value(at(key), key, from.value(key).plain(), to.value(key).plain(), "")
		}
		for _, inner := range keysOf(from.value(key), to.value(key)) {
			if nested[key] != nil && !slices.Contains(nested[key], inner) {
				d.value(at(key, inner), key+"."+inner, from.value(key).value(inner).plain(), to.value(key).value(inner).plain(), "")
			}
		}
	}
}

func (p *Policy) zone() string {
	if p.Location == nil {
		return ""
	}
	return p.Location.String()
}

func (p *Policy) lateWord(l Late) string {
	if l.ApproveUpTo == 0 {
		return l.Else.String()
	}
	return fmt.Sprintf("approve up to %s(%s), else %s", p.BaseCurrency, p.BaseCurrency.AppendMajor(nil, l.ApproveUpTo), l.Else)
}

// lateEffect compares two defaults: each is a verdict above some amount.
func lateEffect(a, b Late, sameCurrency bool) string {
	verdict, amount := int(b.Else)-int(a.Else), 0
	switch {
	case a.Else == payment.Approve || b.Else == payment.Approve: // of all amounts
	case !sameCurrency:
		return ""
	case b.ApproveUpTo > a.ApproveUpTo:
		amount = -1
	case b.ApproveUpTo < a.ApproveUpTo:
		amount = 1
	}
	if verdict*amount < 0 {
		return ""
	}
	return upOr(verdict+amount, "stricter", "milder")
}

// percent writes a share.
func percent(share float64) string { return strconv.FormatFloat(share*100, 'g', 12, 64) + "%" }

// thresholds notes the thresholds that come, go, or have another verdict.
func (d *differ) thresholds(c Change, a, b []Threshold) {
	from, to := verdictsOf(a), verdictsOf(b)
	c.Key = "thresholds"
	for _, what := range keysOfBoth(from, to) {
		x, okX := from[what]
		y, okY := to[what]
		one := c
		switch {
		case !okX:
			one.Change, one.To, one.Effect = wasAdded, what+": "+y.String(), "stricter"
			d.say(one, "threshold added: %s", one.To)
		case !okY:
			one.Change, one.From, one.Effect = wasRemoved, what+": "+x.String(), "milder"
			d.say(one, "threshold removed: %s", one.From)
		default:
			d.value(one, "threshold "+what, x.String(), y.String(), verdictEffect(x, y))
		}
	}
}

// verdictsOf are the verdicts of thresholds by what is met, the strictest of
// several.
func verdictsOf(all []Threshold) map[string]payment.Verdict {
	out := map[string]payment.Verdict{}
	for i := range all {
		t := &all[i]
		what := fmt.Sprintf("%d points", t.Points)
		if t.Score > 0 {
			what = fmt.Sprintf("score %d", t.Score)
		}
		if which := t.Applies.String(); which != "" {
			what += " for " + which
		}
		out[what] = max(out[what], t.Verdict)
	}
	return out
}
