package rules

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// withLists loads rules and lists over the test features.
func withLists(t testing.TB, policy, rules string, lists ...string) *Ruleset {
	t.Helper()
	files := fstest.MapFS{"features/a.yaml": {Data: []byte(testFeatures)}, "rules/a.yaml": {Data: []byte(rules)}}
	for i, l := range lists {
		files[fmt.Sprintf("lists/%d.yaml", i)] = &fstest.MapFile{Data: []byte(l)}
	}
	if policy != "" {
		files["policy.yaml"] = &fstest.MapFile{Data: []byte(policy)}
	}
	set, err := LoadFS(files)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// decided lets a ruleset decide.
func decided(set *Ruleset, in *Input) *payment.Decision {
	d := &payment.Decision{}
	d.Reset()
	set.NewEvaluator().Decide(in, d)
	return d
}

const (
	noRules  = "rules: []\n"
	holdMore = "rules:\n  - {id: more, verdict: hold, points: 10, when: 'amount > CNY(1)', payer_code: MORE, payer_message: {en: more}}\n"
	stolen   = "list: stolen-cards\ntype: card\neffect: block\nentries:\n  - {value: c-1, why: CASE-88}\n  - {value: c-2, until: 2026-11-22}\n  - {value: c-3, until: '2026-11-22T15:30:00Z'}\n"
)

func TestAListBlocksByItselfBeforeAllRules(t *testing.T) {
	set := withLists(t, noThresholds, holdMore, stolen)
	in := bare()
	in.Tx.Instrument.Kind, in.Tx.Instrument.Token = "card", "c-1"
	d := decided(set, in)
	if got := reasons(d); d.Verdict != payment.Block || d.Source != payment.SourceList || !d.Final ||
		got != "LIST_STOLEN_CARDS//0/on the list stolen-cards: CASE-88 MORE/more/10/" {
		t.Errorf("%s", d.Append(nil))
	}
	if d.PayerCode != "TRY_ANOTHER_WAY" || d.PayerMessage != "" || len(d.Hold.Needs) != 0 {
		t.Errorf("the payer is told %q, %q", d.PayerCode, d.PayerMessage)
	}
	in.Tx.Instrument.Kind = "balance" // the same token, and no card
	if d := decided(set, in); d.Verdict != payment.Hold || d.Source != payment.SourceRules || d.PayerCode != "MORE" {
		t.Errorf("%s", d.Append(nil))
	}
}

func TestNothingLiftsAListThatBlocks(t *testing.T) {
	set := withLists(t, noThresholds, holdMore+"exempt:\n  - {id: e, when: 'in_list(card, \"stolen-cards\")', from: {rules: [more]}}\n", stolen)
	in := bare()
	in.Tx.Instrument.Kind, in.Tx.Instrument.Token = "card", "c-1"
	in.Tx.Channel, in.Tx.Accepts = "transit", payment.AcceptsStated
	if d := decided(set, in); d.Verdict != payment.Block || reasons(d) != "LIST_STOLEN_CARDS//0/on the list stolen-cards: CASE-88" || fmt.Sprint(d.Evidence.Exempt) != "[e]" {
		t.Errorf("%s", d.Append(nil))
	}
}

func TestAnEntryCountsUntilItsEndByEventTime(t *testing.T) {
	const local, utc = "time_zone: Asia/Shanghai\n", ""
	for _, c := range []struct {
		policy, card, at string
		want             payment.Verdict
	}{
		{local, "c-2", "2026-11-22T15:59:59.999999999Z", payment.Block}, {local, "c-2", "2026-11-22T16:00:00Z", payment.Approve},
		{utc, "c-2", "2026-11-22T23:59:59.999999999Z", payment.Block}, {utc, "c-2", "2026-11-23T00:00:00Z", payment.Approve},
		{local, "c-3", "2026-11-22T15:29:59Z", payment.Block}, {local, "c-3", "2026-11-22T15:30:00Z", payment.Approve},
		{utc, "c-1", "1970-01-01T00:00:00Z", payment.Block}, {utc, "c-1", "2261-01-01T00:00:00Z", payment.Block},
	} {
		in := bare()
		in.Tx.Instrument.Kind, in.Tx.Instrument.Token = "card", c.card
		in.Tx.EventTime, _ = payment.ParseTime(c.at)
		if d := decided(withLists(t, c.policy, noRules, stolen), in); d.Verdict != c.want {
			t.Errorf("%+v: %s", c, d.Verdict)
		}
	}
}

// Each type of list is asked about the fields of its type, with what people
// expect to be the same value.
func TestListsKnowTheirValues(t *testing.T) {
	for _, c := range []struct {
		kind, value string
		set         func(*payment.Transaction)
		want        bool
	}{
		{"payer", "u-9", func(tx *payment.Transaction) { tx.Payer.AccountID = "u-9" }, true},
		{"payer", "u-9", func(tx *payment.Transaction) { tx.Payee.AccountID = "u-9" }, false},
		{"payee", "u-9", func(tx *payment.Transaction) { tx.Payee.AccountID = "u-9" }, true},
		{"device", "D-1", func(tx *payment.Transaction) { tx.Device.ID = "d-1" }, false},
		{"device", "d-1", func(tx *payment.Transaction) { tx.Device.ID = "d-1" }, true},
		{"country", "KP", func(tx *payment.Transaction) { tx.Payer.Country = "KP" }, true},
		{"country", "KP", func(tx *payment.Transaction) { tx.Payee.Country = "KP" }, true},
		{"country", "KP", func(tx *payment.Transaction) { tx.Terminal.Country = "KP" }, true},
		{"country", "KP", func(tx *payment.Transaction) { tx.Device.Country = "KP" }, true},
		{"country", "KP", func(tx *payment.Transaction) { tx.Device.Country, tx.Payer.Country = "KR", "CN" }, false},
		{"mcc", "5812", func(tx *payment.Transaction) { tx.Payee.MCC = "5812" }, true},
		{"phone", "+86 (138) 0000-0000", func(tx *payment.Transaction) { tx.Payer.Phone = "+8613800000000" }, true},
		{"phone", "+8613800000000", func(tx *payment.Transaction) { tx.Payer.Phone = "+86 138.0000/0000" }, true},
		{"phone", "8613800000000", func(tx *payment.Transaction) { tx.Payer.Phone = "+8613800000000" }, false},
		{"email", "Some.One@Example.com", func(tx *payment.Transaction) { tx.Payer.Email = "some.ONE@example.COM" }, true},
		{"email", "someone@example.com", func(tx *payment.Transaction) { tx.Payer.Email = "some.one@example.com" }, false},
		{"bin", "622202", func(tx *payment.Transaction) { tx.Instrument.BIN = "622202" }, true},
		{"bin", "622202", func(tx *payment.Transaction) { tx.Instrument.BIN = "6222021" }, false},
	} {
		set := withLists(t, "", noRules, fmt.Sprintf("list: l\ntype: %s\neffect: block\nentries: [{value: %q}]\n", c.kind, c.value))
		in := bare()
		c.set(in.Tx)
		if got := decided(set, in).Verdict == payment.Block; got != c.want {
			t.Errorf("%s %s of %+v: %v", c.kind, c.value, in.Tx, got)
		}
	}
}

func TestNetworksHoldTheirAddresses(t *testing.T) {
	const nets = "list: l\ntype: ip\neffect: block\nentries:\n" +
		"  - {value: 203.0.113.0/24, why: wide}\n  - {value: 203.0.113.7, until: 2026-01-01, why: ended}\n  - {value: 203.0.113.128/25, why: half}\n" +
		"  - {value: 2001:db8::/32, why: six}\n  - {value: 2001:db8::1, why: one}\n  - {value: '::ffff:198.51.100.0/120', why: mapped}\n  - {value: 192.0.2.0/31, why: two}\n"
	set := withLists(t, "", noRules, nets)
	for addr, why := range map[string]string{
		"203.0.113.0": "wide", "203.0.113.7": "wide", "203.0.113.127": "wide", "203.0.113.128": "half", "203.0.113.255": "half", "203.0.114.0": "", "203.0.112.255": "",
		"2001:db8::1": "one", "2001:db8::2": "six", "2001:db8:ffff:ffff::": "six", "2001:db9::": "", "198.51.100.255": "mapped", "198.51.101.0": "",
		"192.0.2.0": "two", "192.0.2.1": "two", "192.0.2.2": "", "::": "", "0.0.0.0": "",
	} {
		in := bare()
		in.Tx.Device.IP, in.Tx.Device.Addr = addr, netip.MustParseAddr(addr).Unmap()
		want := ""
		if why != "" {
			want = "LIST_L//0/on the list l: " + why
		}
		if got := reasons(decided(set, in)); got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
	in := bare() // no address at all
	if d := decided(set, in); d.Verdict != payment.Approve {
		t.Errorf("%s", d.Append(nil))
	}
}

func TestInListOfSomethingAbsentIsUnknown(t *testing.T) {
	set := withLists(t, noThresholds, `rules:
  - {id: a, points: 1, when: 'in_list(card, "stolen-cards")'}
  - {id: b, points: 2, when: 'not in_list(card, "stolen-cards")'}
  - {id: c, points: 4, when: 'in_list(ip, "nets")'}
  - {id: d, points: 8, when: 'in_list(attributes.shop, "words") or amount > CNY(1)'}
  - {id: e, points: 16, when: 'not in_list(channel, "words")'}
`, strings.Replace(stolen, "block", "none", 1), "list: nets\ntype: ip\nentries: []\n", "list: words\ntype: string\nentries: [{value: web}, {value: 'a b'}]\n")
	for _, c := range []struct {
		name    string
		set     func(*payment.Transaction)
		points  int
		unknown string
	}{
		{"nothing named", func(*payment.Transaction) {}, 8, "[a b c e]"},
		{"on the lists", func(tx *payment.Transaction) {
			tx.Instrument.Kind, tx.Instrument.Token, tx.Channel = "card", "c-1", "web"
		}, 1 + 8, "[c]"},
		{"not on the lists", func(tx *payment.Transaction) {
			tx.Instrument.Kind, tx.Instrument.Token, tx.Channel = "card", "c-7", "qr"
			tx.Device.Addr = netip.MustParseAddr("10.0.0.1")
		}, 2 + 8 + 16, "[]"},
	} {
		in := bare()
		c.set(in.Tx)
		if d := decided(set, in); d.Points.N != c.points || fmt.Sprint(d.Evidence.Unknown) != c.unknown {
			t.Errorf("%s: %s", c.name, d.Append(nil))
		}
	}
}

func TestWhatHasEndedIsReportedAndIsNoMistake(t *testing.T) {
	set := withLists(t, "", holdMore+"exempt:\n  - {id: e, when: 'in_list(card, \"stolen-cards\")', from: {rules: [more]}, until: 2026-01-31}\n", stolen)
	at, _ := payment.ParseTime("2026-11-22T23:00:00Z")
	want := `lists/0.yaml:7:25: the entry c-3 of the list stolen-cards has ended
   7 |   - {value: c-3, until: '2026-11-22T15:30:00Z'}
     |                         ^~~~~~~~~~~~~~~~~~~~~~
rules/a.yaml:4:82: the exempt e has ended
   4 |   - {id: e, when: 'in_list(card, "stolen-cards")', from: {rules: [more]}, until: 2026-01-31}
     |                                                                                  ^~~~~~~~~~`
	if got := set.ended(at).Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := set.ended(at.Add(time.Hour)); len(got) != 3 {
		t.Errorf("%v", got)
	}
}

// BenchmarkBlockList looks 100,000 networks and cards up.
func BenchmarkBlockList(b *testing.B) {
	var cards, nets strings.Builder
	cards.WriteString("list: cards\ntype: card\neffect: block\nentries:\n")
	nets.WriteString("list: nets\ntype: ip\neffect: block\nentries:\n")
	for i := range 100_000 {
		fmt.Fprintf(&cards, "  - {value: c-%d, until: 2030-01-01, why: CASE-%d}\n", i, i)
		fmt.Fprintf(&nets, "  - {value: %d.%d.%d.0/%d}\n", 1+i%200, i/200%256, i/51200, 24+i%3)
	}
	began := time.Now()
	set := withLists(b, "", noRules, cards.String(), nets.String())
	b.Logf("200,000 entries load in %v", time.Since(began))
	in := bare()
	in.Tx.Instrument.Kind, in.Tx.Instrument.Token = "card", "c-none"
	in.Tx.Device.Addr = netip.MustParseAddr("223.1.1.1")
	e := set.NewEvaluator()
	var d payment.Decision
	b.ReportAllocs()
	for b.Loop() {
		d.Reset()
		e.Decide(in, &d)
	}
}
