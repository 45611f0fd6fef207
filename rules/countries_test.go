package rules

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-risk/sluice/pipeline/window"
)

// withCountries loads a ruleset of one rule and one file of data/.
func withCountries(t testing.TB, data, condition string) *Ruleset {
	t.Helper()
	set, err := LoadFS(fstest.MapFS{
		"data/countries.csv": {Data: []byte(data)},
		"rules/a.yaml":       {Data: []byte("rules:\n  - {id: a, verdict: block, when: '" + condition + "'}\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// from is a payment from an address, by a card of a BIN.
func from(ip, bin string) *Input {
	in := bare()
	in.Tx.Device.IP, in.Tx.Instrument.BIN, in.Tx.Payer.Country = ip, bin, "CN"
	if ip != "" {
		in.Tx.Device.Addr = netip.MustParseAddr(ip).Unmap()
	}
	return in
}

func TestTheLongestPrefixSaysTheCountry(t *testing.T) {
	const data = "\ufeffprefix,country\r\n# the blocks of documentation\r\n203.0.113.0/24,JP\r\n\r\n203.0.113.128/25,CN\n203.0.113.130,\"US\"\n0.0.0.0/1,BR\n" +
		"2001:db8::/32,FR\n2001:db8:1::/48,DE\n::ffff:198.51.100.0/120,HK\n255.255.255.255,NZ\nffff::/16,IS\n" +
		"6,SG\n622,CN\n622202,MO\n62220212345,TW\n"
	for asked, want := range map[string]string{
		"203.0.113.0": "JP", "203.0.113.127": "JP", "203.0.113.128": "CN", "203.0.113.129": "CN", "203.0.113.130": "US", "203.0.113.131": "CN", "203.0.113.255": "CN",
		"203.0.112.255": "", "203.0.114.0": "", "127.255.255.255": "BR", "0.0.0.0": "BR", "128.0.0.0": "", "198.51.100.9": "HK", "::ffff:198.51.100.9": "HK",
		"255.255.255.254": "", "255.255.255.255": "NZ", "2001:db8::": "FR", "2001:db8:1::1": "DE", "2001:db8:1:ffff:ffff:ffff:ffff:ffff": "DE", "2001:db8:2::": "FR",
		"2001:db9::": "", "::1": "", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": "IS",
		"622202": "MO", "62220212": "MO", "62220212345": "TW", "62220212346": "MO", "622203": "CN", "622": "CN", "623": "SG", "5": "", "51": "", "x": "", "622202123456": "",
	} {
		field, in := "bin", from("", asked)
		if strings.ContainsAny(asked, ".:") {
			field, in = "ip", from(asked, "")
		}
		condition, truth := "country_of("+field+") == \""+want+"\"", window.True
		if want == "" {
			condition, truth = "country_of("+field+") != \"XX\"", window.Unknown
		}
		if got := atOnce(withCountries(t, data, condition), in); got != truth {
			t.Errorf("%s of %s: %s", condition, asked, truthWord(got))
		}
	}
	if got := atOnce(withCountries(t, data, `country_of(ip) == "CN" or country_of(bin) == "CN"`), bare()); got != window.Unknown {
		t.Errorf("a payment without address and BIN: %s", truthWord(got))
	}
}

// TestCountriesAgreeWithALookAtEveryPrefix holds the laid out ranges against the
// plain definition, over random networks that lie in each other.
func TestCountriesAgreeWithALookAtEveryPrefix(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	address := func(six bool) netip.Addr {
		if six {
			b := [16]byte{0x20, byte(random.IntN(2)), 7: byte(random.IntN(4)), 8: byte(random.IntN(4)), 15: byte(random.IntN(4))}
			return netip.AddrFrom16(b)
		}
		return netip.AddrFrom4([4]byte{byte(random.IntN(2)), byte(random.IntN(4)) << 6, 0, byte(random.IntN(8))})
	}
	for range 200 {
		six := random.IntN(2) == 0
		nets := map[netip.Prefix]string{}
		var data strings.Builder
		for range 1 + random.IntN(30) {
			a := address(six)
			p, _ := a.Prefix(random.IntN(a.BitLen() + 1))
			if _, again := nets[p]; !again {
				nets[p] = []string{"CN", "JP", "DE", "FR"}[random.IntN(4)]
				fmt.Fprintf(&data, "%s,%s\n", p, nets[p])
			}
		}
		files := &countryFiles{codes: map[string]string{}}
		r := &report{}
		files.read(r, "data/a.csv", []byte(data.String()))
		c := files.build()
		if len(r.problems) > 0 {
			t.Fatal(r.problems)
		}
		for range 300 {
			a := address(six)
			want := ""
			for bits := 0; bits <= a.BitLen(); bits++ {
				if p, _ := a.Prefix(bits); nets[p] != "" {
					want = nets[p]
				}
			}
			if got := c.ofAddress(a); got != want {
				t.Fatalf("%s is of %q, want %q, by\n%s", a, got, want, data.String())
			}
		}
	}
}

func TestCountriesArePartOfTheRuleset(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	const example = `country_of(ip) != payer.country`
	if !bytes.Contains(doc, []byte("//\t"+example)) {
		t.Errorf("doc.go has no example %s", example)
	}
	japan, china := withCountries(t, "203.0.113.0/24,JP\n", example), withCountries(t, "203.0.113.0/24,CN\n", example)
	if japan.Hash() == china.Hash() {
		t.Error("another country is the same ruleset")
	}
	dir := t.TempDir()
	if err := japan.Save(dir); err != nil {
		t.Fatal(err)
	}
	kept, err := Saved(dir, japan.Hash())
	if err != nil {
		t.Fatal(err)
	}
	in := from("203.0.113.7", "")
	if atOnce(japan, in) != window.True || atOnce(china, in) != window.False || atOnce(kept, in) != window.True {
		t.Error("the address is not of the country that the file says")
	}
}

func TestALongFileOfMistakesIsNotPrintedWhole(t *testing.T) {
	r := &report{}
	files := &countryFiles{codes: map[string]string{}}
	files.read(r, "data/a.csv", []byte(strings.Repeat("203.0.113.0/24;CN\n", 1000)))
	if len(r.problems) != maxCountryProblems+1 {
		t.Errorf("%d problems", len(r.problems))
	}
}

func TestCountryOfAllocatesNothing(t *testing.T) {
	set := withCountries(t, "203.0.113.0/24,JP\n2001:db8::/32,FR\n622,CN\n", `country_of(ip) in ["JP", "FR"] and country_of(bin) == payer.country`)
	e := set.NewEvaluator()
	for _, in := range []*Input{from("203.0.113.7", "622202"), from("2001:db8::1", "622202")} {
		firesWithoutAllocating(t, e, in)
	}
}

// BenchmarkCountryOf asks a table of 400,000 networks, as large as the public ones.
func BenchmarkCountryOf(b *testing.B) {
	var data bytes.Buffer
	for i := range 400_000 {
		fmt.Fprintf(&data, "%d.%d.%d.0/24,%s\n", 1+i>>16, i>>8&255, i&255, []string{"CN", "JP", "DE"}[i%3])
	}
	began := time.Now()
	c := &countryFiles{codes: map[string]string{}}
	c.read(&report{}, "data/a.csv", data.Bytes())
	built := c.build()
	b.Logf("%d networks load in %v", len(c.nets[0]), time.Since(began))
	random := rand.New(rand.NewPCG(1, 2))
	addresses := make([]netip.Addr, 1024)
	for i := range addresses {
		addresses[i] = netip.AddrFrom4([4]byte{byte(1 + random.IntN(6)), byte(random.IntN(256)), byte(random.IntN(256)), 9})
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		built.ofAddress(addresses[i&1023])
		i++
	}
}
