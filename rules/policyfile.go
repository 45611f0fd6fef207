package rules

import (
	"math/big"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// defaultPolicy is the policy in force without a file; approveLate adds its
// amount.
func defaultPolicy() Policy {
	p := Policy{
		BaseCurrency: mustCurrency("CNY"),
		Channels:     []string{"qr", "in_app", "mini_program", "web", "pos", "transit", "bill", "face"},
		NoRate:       payment.Hold,
		Thresholds:   []Threshold{{Points: 80, Verdict: payment.Hold}, {Score: 85, Verdict: payment.Block}, {Score: 60, Verdict: payment.Hold}},
		Caps:         Caps{BlockShare: 0.05, Per: 5 * time.Minute, MinCount: 100, Then: payment.Hold},
		cannotHold:   map[string]payment.Verdict{"transit": payment.Approve},
		cannotHoldBy: payment.Block,
	}
	p.Hold.Review = HoldDefault{For: 24 * time.Hour, OnExpiry: payment.Block}
	p.Hold.StepUp = HoldDefault{For: 3 * time.Minute, OnExpiry: payment.Block}
	p.Duplicates = defaultDuplicates()
	p.decideWithin = [typeCount]time.Duration{
		payment.TypePayment: 300 * time.Millisecond, payment.TypeTransfer: time.Second, payment.TypeWithdrawal: time.Second,
		payment.TypeTopUp: time.Second, payment.TypeRefund: 2 * time.Second}
	p.whenLate = [typeCount]Late{
		payment.TypePayment: {Else: payment.Hold}, payment.TypeTransfer: {Else: payment.Hold}, payment.TypeWithdrawal: {Else: payment.Hold},
		payment.TypeTopUp: {Else: payment.Approve}, payment.TypeRefund: {Else: payment.Hold}}
	return p
}

// approveLate adds the one amount of the defaults, where its currency has a rate.
func (p *Policy) approveLate(r *rates) {
	if limit, ok := r.convert(payment.Money{Value: 500_00, Currency: mustCurrency("CNY")}); ok {
		p.whenLate[payment.TypePayment].ApproveUpTo = limit
	}
}

func mustCurrency(code string) payment.Currency {
	c, ok := payment.ParseCurrency(code)
	if !ok {
		panic("unknown currency " + code)
	}
	return c
}

// baseCurrency reads the one key of policy.yaml that the rates rest on.
func baseCurrency(n node, fallback payment.Currency) payment.Currency {
	quiet := node{&report{}, n.src, n.ast} // policyFields reports what is wrong
	for _, e := range quiet.entries("") {
		if e.key == "base_currency" {
			if c, ok := e.value.currency(""); ok {
				return c
			}
		}
	}
	return fallback
}

// The bounds of a policy.
const (
	minDecideWithin, maxDecideWithin = 10 * time.Millisecond, 10 * time.Minute
	minHold, maxHold                 = time.Second, 90 * 24 * time.Hour
	maxPoints                        = 1000
)

// readPolicy reads policy.yaml over the defaults in p. The rates are those into
// its base currency.
func readPolicy(n node, p *Policy, r *rates) {
	n.object("policy.yaml",
		field{"base_currency", func(v node) { v.currency("base_currency") }}, // kept already, see baseCurrency
		field{"time_zone", p.readTimeZone},
		field{"decide_within", func(v node) {
			v.byType("decide_within", func(t payment.Type, v node) {
				if d, ok := v.duration("decide_within."+t.String(), minDecideWithin, maxDecideWithin); ok {
					p.decideWithin[t] = d
				}
			})
		}},
		field{"when_late", func(v node) {
			v.byType("when_late", func(t payment.Type, v node) { p.whenLate[t] = readLate(v, p.whenLate[t], r) })
		}},
		field{"if_cannot_hold", p.readCannotHold},
		field{"hold", func(v node) {
			v.object("hold",
				field{"review", func(v node) { readHoldDefault(v, "hold.review", &p.Hold.Review) }},
				field{"step_up", func(v node) { readHoldDefault(v, "hold.step_up", &p.Hold.StepUp) }})
		}},
		field{"thresholds", p.readThresholds},
		field{"duplicates", p.Duplicates.read},
		field{"caps", func(v node) {
			v.object("caps",
				field{"block_share", func(v node) { set(&p.Caps.BlockShare)(v.share("block_share")) }},
				field{"per", func(v node) { set(&p.Caps.Per)(v.duration("per", time.Second, 24*time.Hour)) }},
				field{"min_count", func(v node) { set(&p.Caps.MinCount)(v.whole("min_count", 1, 1_000_000_000)) }},
				field{"then", func(v node) { set(&p.Caps.Then)(v.verdict("then", payment.Hold, payment.Approve)) }})
		}},
		field{"channels", p.readChannels},
		field{"reasons", p.readReasons},
		field{"no_rate", func(v node) {
			set(&p.NoRate)(v.verdict("no_rate", payment.Approve, payment.Hold, payment.Block))
		}},
	)
}

// set keeps a value that was read without a problem.
func set[T any](to *T) func(T, bool) {
	return func(v T, ok bool) {
		if ok {
			*to = v
		}
	}
}

// byType reads a mapping from types of transactions.
func (n node) byType(what string, read func(payment.Type, node)) {
	var fields []field
	for _, name := range payment.TypeNames() {
		t, _ := payment.ParseType(name)
		fields = append(fields, field{name, func(v node) { read(t, v) }})
	}
	n.object(what, fields...)
}

func (p *Policy) readTimeZone(n node) {
	s, ok := n.text("time_zone")
	if !ok {
		return
	}
	location, ok := zoneNamed(s)
	if !ok {
		n.at(n.place(), "time_zone must be a name of the IANA database such as Asia/Shanghai")
		return
	}
	p.Location = location
}

func readLate(n node, late Late, r *rates) Late {
	if n.what() != "a mapping" {
		if v, ok := n.verdict("what becomes of a late transaction", payment.Approve, payment.Hold, payment.Block); ok {
			return Late{Else: v}
		}
		return late
	}
	found := n.object("when_late",
		field{"approve_up_to", func(v node) { set(&late.ApproveUpTo)(r.moneyText(v, "approve_up_to")) }},
		field{"else", func(v node) { set(&late.Else)(v.verdict("else", payment.Hold, payment.Block)) }})
	n.needs("when_late", found, "approve_up_to", "else")
	return late
}

func (p *Policy) readCannotHold(n node) {
	by := map[string]payment.Verdict{}
	for _, e := range n.entries("if_cannot_hold") {
		v, ok := e.value.verdict("what becomes of a hold", payment.Approve, payment.Block)
		switch {
		case !ok:
		case e.key == "default":
			p.cannotHoldBy = v
		case !channelPattern.MatchString(e.key):
			n.at(e.at, "a key here is default or %s", channelHint)
		default:
			by[e.key] = v
		}
	}
	p.cannotHold = by
}

func readHoldDefault(n node, what string, to *HoldDefault) {
	n.object(what,
		field{"for", func(v node) { set(&to.For)(v.duration(what+".for", minHold, maxHold)) }},
		field{"on_expiry", func(v node) {
			set(&to.OnExpiry)(v.verdict(what+".on_expiry", payment.Approve, payment.Block))
		}})
}

func (p *Policy) readThresholds(n node) {
	all, ok := n.list("thresholds")
	if !ok {
		return
	}
	p.Thresholds = nil
	for _, v := range all {
		var t Threshold
		found := v.object("a threshold",
			field{"points", func(v node) { set(&t.Points)(v.whole("points", 1, 1_000_000)) }},
			field{"score", func(v node) { set(&t.Score)(v.whole("score", 1, 100)) }},
			field{"verdict", func(v node) { set(&t.Verdict)(v.verdict("verdict", payment.Hold, payment.Block)) }},
			field{"applies_to", func(v node) { t.Applies = v.appliesTo() }})
		_, points := found["points"]
		_, score := found["score"]
		_, verdict := found["verdict"]
		if found != nil && (points == score || !verdict) {
			v.at(v.place(), "a threshold needs a verdict, and either points or score")
			continue
		}
		p.Thresholds = append(p.Thresholds, t)
	}
}

func (p *Policy) readChannels(n node) {
	all, ok := n.list("channels")
	if !ok {
		return
	}
	p.Channels = nil
	for _, v := range all {
		if s, ok := v.name("a channel", channelPattern, channelHint); ok {
			p.Channels = appendNew(v, "channel", p.Channels, s)
		}
	}
}

// share reads a share of a whole: 5%, or 0.05.
func (n node) share(what string) (float64, bool) {
	text := n.ast.GetToken().Value
	if s, ok := cutPercent(text); ok && n.what() == "text" {
		if r, ok := new(big.Rat).SetString(s); ok && plainDecimal.MatchString(s) && r.Cmp(big.NewRat(100, 1)) <= 0 {
			f, _ := r.Quo(r, big.NewRat(100, 1)).Float64()
			return f, true
		}
	} else if r, ok := new(big.Rat).SetString(text); ok && plainDecimal.MatchString(text) && r.Cmp(big.NewRat(1, 1)) <= 0 {
		f, _ := r.Float64()
		return f, true
	}
	n.at(n.place(), "%s must be a share such as 5%% or 0.05", what)
	return 0, false
}

func cutPercent(s string) (string, bool) {
	if len(s) > 1 && s[len(s)-1] == '%' {
		return s[:len(s)-1], true
	}
	return "", false
}
