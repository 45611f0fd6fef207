package rules

import (
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

func loadFixture(t testing.TB) *Ruleset {
	t.Helper()
	set, err := Load("testdata/ruleset")
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestAmountsAreConvertedHalfEven(t *testing.T) {
	_, err := LoadFS(fstest.MapFS{"rates.yaml": {Data: []byte(
		"base: CNY\nrates: {USD: 7.10, HKD: 0.91, JPY: 0.047, KWD: 23.15, EUR: 0.5, GBP: 999999999999999999.999999999999999999, CHF: 1.5}\n")}})
	if err == nil {
		t.Fatal("a rate whose fraction does not fit 64 bits was accepted")
	}
	set, err := LoadFS(fstest.MapFS{"rates.yaml": {Data: []byte(
		"base: CNY\nrates: {USD: 7.10, HKD: 0.91, JPY: 0.047, KWD: 23.15, EUR: 0.5, CHF: 1.5, VND: 0.000000001, GBP: 100000000000000000}\n")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		currency    string
		minor, want int64
		ok          bool
	}{
		{"CNY", 0, 0, true}, {"CNY", 1250, 1250, true}, {"CNY", math.MaxInt64, math.MaxInt64, true},
		{"USD", 150, 1065, true}, {"USD", 1, 7, true}, {"USD", 5, 36, true}, {"USD", 15, 106, true}, {"USD", 25, 178, true}, // 35.5, 106.5, 177.5
		{"EUR", 1, 0, true}, {"EUR", 2, 1, true}, {"EUR", 3, 2, true}, {"EUR", 5, 2, true}, {"EUR", 7, 4, true}, // 0.5, 1, 1.5, 2.5, 3.5
		{"JPY", 100, 470, true}, {"JPY", 1, 5, true}, {"JPY", 5, 24, true}, {"JPY", 15, 70, true}, // no minor digits: 4.7, 23.5, 70.5
		{"KWD", 1000, 2315, true}, {"KWD", 1, 2, true}, {"KWD", 200, 463, true}, {"KWD", 100, 232, true}, // three minor digits: 2.315, 231.5
		{"CHF", 1<<53 + 1, 13510798882111490, true}, // 1.5 × (2^53 + 1) = …489.5
		{"CHF", 1<<53 + 3, 13510798882111492, true}, // …492.5
		{"HKD", 1<<53 + 1, 8196551321814304, true},  // …303.63,
		{"CHF", math.MaxInt64 / 2, 6917529027641081854, true}, {"CHF", math.MaxInt64, 0, false}, {"USD", math.MaxInt64, 0, false}, {"GBP", math.MaxInt64, 0, false},
		{"VND", math.MaxInt64, 922337203685, true}, {"AUD", 100, 0, false}, {"USD", -1, 0, false},
	} {
		if got, ok := set.ToBase(payment.Money{Value: c.minor, Currency: mustCurrency(c.currency)}); got != c.want || ok != c.ok {
			t.Errorf("%d %s: %d %v, want %d %v", c.minor, c.currency, got, ok, c.want, c.ok)
		}
	}
	if _, ok := set.ToBase(payment.Money{Value: 5}); ok {
		t.Error("money without a currency was converted")
	}
}

// TestConversionAgreesWithBigRationals holds ToBase against math/big.
func TestConversionAgreesWithBigRationals(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	from := mustCurrency("USD")
	r := newRates(mustCurrency("CNY"))
	for range 200_000 {
		units := big.NewRat(random.Int64N(1<<(1+random.IntN(40)))+1, int64(math.Pow10(random.IntN(10))))
		if !r.set(from, units) {
			continue
		}
		value := random.Int64N(math.MaxInt64) >> random.IntN(62)
		exact := new(big.Rat).Mul(units, new(big.Rat).SetInt64(value))
		twice := new(big.Int).Mul(exact.Num(), big.NewInt(2))
		want, rest := new(big.Int).DivMod(twice, exact.Denom(), new(big.Int))
		half := rest.Sign() == 0 && want.Bit(0) == 1
		want.Add(want, big.NewInt(1)).Rsh(want, 1)
		if half && want.Bit(0) == 1 {
			want.Sub(want, big.NewInt(1))
		}
		got, ok := r.convert(payment.Money{Value: value, Currency: from})
		if ok != want.IsInt64() || ok && got != want.Int64() {
			t.Fatalf("%d at %s: %d %v, want %s", value, units, got, ok, want)
		}
	}
}

func TestHashNamesWhatActsAndNothingElse(t *testing.T) {
	files := func() fstest.MapFS {
		return fstest.MapFS{
			"rules/a.yaml": {Data: []byte("rules:\n  - {id: a, verdict: block, when: 'amount > CNY(1)'}\n")},
			"rates.yaml":   {Data: []byte("base: CNY\nrates: {USD: 7.10}\n")},
		}
	}
	load := func(change func(fstest.MapFS)) *Ruleset {
		f := files()
		change(f)
		set, err := LoadFS(f)
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	first := load(func(fstest.MapFS) {})
	if !strings.HasPrefix(first.Hash(), "sha256:") || len(first.Hash()) != 71 || !strings.HasPrefix(first.RatesVersion(), "sha256:") {
		t.Errorf("%q %q", first.Hash(), first.RatesVersion())
	}
	for name, f := range map[string]func(fstest.MapFS){
		"a test":    func(f fstest.MapFS) { f["rules/a_test.yaml"] = &fstest.MapFile{Data: []byte("tests: []")} },
		"a text":    func(f fstest.MapFS) { f["README.md"] = &fstest.MapFile{Data: []byte("text")} },
		"a hidden":  func(f fstest.MapFS) { f["rules/.a.yaml.swp"] = &fstest.MapFile{Data: []byte("x")} },
		"no change": func(fstest.MapFS) {},
	} {
		if load(f).Hash() != first.Hash() {
			t.Errorf("%s changes the hash", name)
		}
	}
	for name, f := range map[string]func(fstest.MapFS){
		"a comment":  func(f fstest.MapFS) { f["rules/a.yaml"].Data = append(f["rules/a.yaml"].Data, "# x\n"...) },
		"a new name": func(f fstest.MapFS) { f["rules/b.yaml"] = f["rules/a.yaml"]; delete(f, "rules/a.yaml") },
		"a policy":   func(f fstest.MapFS) { f["policy.yaml"] = &fstest.MapFile{Data: []byte("no_rate: block")} },
	} {
		set := load(f)
		if set.Hash() == first.Hash() || set.RatesVersion() != first.RatesVersion() {
			t.Errorf("%s does not change the hash, or the version of the rates", name)
		}
	}
	if set := load(func(f fstest.MapFS) { delete(f, "rates.yaml") }); set.RatesVersion() != "" {
		t.Error("a version of rates that are not there")
	}
}

func TestAFolderWithoutARulesetIsAnError(t *testing.T) {
	dir := t.TempDir()
	var problems Problems
	for _, name := range []string{dir, filepath.Join(dir, "none")} {
		if _, err := Load(name); err == nil || errors.As(err, &problems) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "real", "rules"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "real", "rules", "a.yaml"), []byte("rules:\n  - {id: a, verdict: block, when: 'amount > CNY(1)'}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	set, err := Load(filepath.Join(dir, "link"))
	if err != nil || len(set.RuleIDs()) != 1 {
		t.Errorf("through a symbolic link: %v", err)
	}
}

func TestPolicyDefaultsAndFile(t *testing.T) {
	set, err := LoadFS(fstest.MapFS{"rules/a.yaml": {Data: []byte("rules: []\n")}})
	if err != nil {
		t.Fatal(err)
	}
	p := set.Policy()
	if p.BaseCurrency.String() != "CNY" || p.Location != nil || p.DecideWithin(payment.TypePayment) != 300*time.Millisecond || p.DecideWithin(payment.TypeRefund) != 2*time.Second ||
		p.WhenLate(payment.TypePayment) != (Late{500_00, payment.Hold}) || p.WhenLate(payment.TypeTopUp) != (Late{0, payment.Approve}) ||
		p.IfCannotHold("transit") != payment.Approve || p.IfCannotHold("web") != payment.Block || p.NoRate != payment.Hold ||
		p.Hold.Review != (HoldDefault{24 * time.Hour, payment.Block}) || p.Hold.StepUp != (HoldDefault{3 * time.Minute, payment.Block}) ||
		len(p.Thresholds) != 3 || p.Duplicates.Within != time.Minute || p.Caps != (Caps{0.05, 5 * time.Minute, 100, payment.Hold}) ||
		!p.KnownChannel("face") || !p.KnownChannel("") || p.KnownChannel("fax") {
		t.Errorf("%+v", p)
	}
	late := p.WhenLate(payment.TypePayment)
	if late.Verdict(500_00, true) != payment.Approve || late.Verdict(500_01, true) != payment.Hold || late.Verdict(0, false) != payment.Hold || late.Verdict(0, true) != payment.Approve {
		t.Error("the default of a late payment")
	}
	set, err = LoadFS(fstest.MapFS{
		"rates.yaml": {Data: []byte("base: USD\nrates: {EUR: 1.1}\n")},
		"policy.yaml": {Data: []byte(`base_currency: USD
time_zone: America/New_York
decide_within: {top_up: 5s}
when_late: {payment: {approve_up_to: EUR(10), else: block}, withdrawal: approve}
if_cannot_hold: {pos: approve, default: approve}
hold: {review: {for: 2d}, step_up: {on_expiry: approve}}
thresholds: [{points: 10, verdict: block, applies_to: {type: refund, channel: [web]}}]
duplicates: {within: 5m, verdict: block}
caps: {block_share: 0.5%, per: 1h, min_count: 7, then: approve}
channels: [fax]
no_rate: block
`)}})
	if err != nil {
		t.Fatal(err)
	}
	p = set.Policy()
	if p.BaseCurrency.String() != "USD" || p.Location.String() != "America/New_York" || p.DecideWithin(payment.TypeTopUp) != 5*time.Second || p.DecideWithin(payment.TypePayment) != 300*time.Millisecond ||
		p.WhenLate(payment.TypePayment) != (Late{11_00, payment.Block}) || p.WhenLate(payment.TypeWithdrawal) != (Late{0, payment.Approve}) ||
		p.IfCannotHold("transit") != payment.Approve || p.IfCannotHold("pos") != payment.Approve || p.NoRate != payment.Block ||
		p.Hold.Review != (HoldDefault{48 * time.Hour, payment.Block}) || p.Hold.StepUp != (HoldDefault{3 * time.Minute, payment.Approve}) ||
		len(p.Thresholds) != 1 || p.Thresholds[0].Applies.String() != "refund, on web" || p.Duplicates.Verdict != payment.Block || p.Caps != (Caps{0.005, time.Hour, 7, payment.Approve}) ||
		!p.KnownChannel("fax") || p.KnownChannel("qr") {
		t.Errorf("%+v", p)
	}
}

func TestOrderOfDecisionIsPrinted(t *testing.T) {
	want := `1. A transaction that cannot be read is refused: block, source invalid.
2. One that was decided before gets the same decision again.
3. Lists that block by themselves, and nothing lifts that:
   networks: ip, 4 entries
   stolen-cards: card, 2 entries
4. A duplicate payment: hold. Its type, payer, payee, amount and currency are those of an earlier one that is approved
   or pending; so is its order, or one of them names none and they are at most 1m apart.
5. Rules: 23 live, 1 in shadow, 1 disabled. Those that apply to its type and channel are evaluated; all that are true count. They can ask the lists:
   vip: payer, 1 entries
6. An exempt switches off rules that are true, and lifts no list:
   vip-travel: from card-testing, impossible-travel, until 2027-12-31T16:00:00.000Z (CASE-88)
7. Without a rate into CNY: hold.
8. The points of all rules that are true are added, and meet the thresholds:
   80 points: hold
   150 points: block (payment, transfer)
9. The strictest verdict of all these wins: block, then hold, then approve.
10. A hold on a channel where the caller cannot hold becomes: approve on transit, block otherwise.
11. Rules in shadow are evaluated last and only recorded.
12. A transaction whose time is up before gets a default by its type (when_late), and the verdict of the rules later, if that differs:
   payment: approve up to CNY(200.00), else hold
   transfer: hold
   withdrawal: hold
   top_up: approve
   refund: hold
13. Checked, and without effect in this version: caps, thresholds on a score, actions.
`
	if got := loadFixture(t).OrderOfDecision(); got != want {
		t.Errorf("got\n%s", got)
	}
}

// FuzzLoadNeverPanics gives the loader any text as rules, and any as a condition.
func FuzzLoadNeverPanics(f *testing.F) {
	f.Add("rules:\n  - {id: a, verdict: block, when: 'amount > CNY(1)'}\n", "card.a_1h > 1 and amount in [CNY(1)] ? true : has(x)")
	f.Add("? a\n: - b", "a.b.c[0].d?.e | f() .. {a: 1}")
	f.Add("list: a\ntype: ip\nentries: [{value: \"::/0\", until: 2027-01-01}]\n", "in_list(payer, \"a\") or in_list(ip, \"a\")")
	f.Add("exempt:\n  - {id: a, when: 'amount > CNY(1)', from: {rules: [b], tags: c, score: true}}\n", "true")
	f.Add("rules: [&a {<<: *a}]", "-abs(min(1, 2.5, -9223372036854775808)) % 0 == \"\\u00e9\" matches \"(\"")
	f.Fuzz(func(t *testing.T, rules, condition string) {
		_, err := LoadFS(fstest.MapFS{"rules/a.yaml": {Data: []byte(rules)}, "policy.yaml": {Data: []byte(rules)}, "rates.yaml": {Data: []byte(rules)}, "features/a.yaml": {Data: []byte(rules)}, "lists/a.yaml": {Data: []byte(rules)}})
		for _, e := range []error{err, func() error { _, err := ruleFor(condition); return err }()} {
			var problems Problems
			if errors.As(e, &problems) {
				_ = problems.Error()
			}
		}
	})
}
