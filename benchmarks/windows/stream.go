package main

import (
	"math"
	"net/netip"
	"strconv"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// stream makes transactions that name five entities each. pipeline/traffic plays
// people better, but for 200,000 of them at the most, and without a card or a
// device for many.
type stream struct {
	seed   uint64
	people uint64
	step   time.Duration // of event time, from one transaction to the next; whole milliseconds
	number uint64        // of the next transaction

	currency payment.Currency
	text     []byte
	ends     []int
}

// streamStart is a Monday.
const streamStart = payment.Time(1767571200e9)

func newStream(seed uint64, people int, step time.Duration) *stream {
	currency, _ := payment.ParseCurrency("CNY")
	return &stream{seed: seed, people: uint64(people), step: max(step.Truncate(time.Millisecond), time.Millisecond), currency: currency}
}

const (
	peoplePerIP    = 4
	peoplePerPayee = 10
	regions        = 20 // whose people pay the payees of that region
	texts          = 6  // of a transaction: its id and its entities
)

// entities is how many entities of all kinds there are.
func (s *stream) entities() float64 {
	return float64(s.people) * (1 + 1 + 1 + 1./peoplePerIP + 1./peoplePerPayee)
}

// next overwrites txs with the next transactions. They stay valid.
func (s *stream) next(txs []payment.Transaction) {
	s.text, s.ends = s.text[:0], s.ends[:0]
	for i := range txs {
		s.one(&txs[i])
	}
	all, from := string(s.text), 0 // one allocation for all texts
	cut := func(k int) string {
		text := all[from:s.ends[k]]
		from = s.ends[k]
		return text
	}
	for i := range txs {
		tx, k := &txs[i], i*texts
		tx.ID, tx.Payer.AccountID, tx.Instrument.Token = cut(k), cut(k+1), cut(k+2)
		tx.Device.ID, tx.Device.IP, tx.Payee.AccountID = cut(k+3), cut(k+4), cut(k+5)
	}
}

// one makes a transaction but for its texts, which it writes down.
func (s *stream) one(tx *payment.Transaction) {
	rng := random(s.seed, s.number)
	payer := rng.below(s.people)
	if s.number < s.people { // everybody pays once before anybody is picked at random
		payer = s.number
	}
	region := payer % regions
	card, device, ip := payer, payer, payer/peoplePerIP
	if rng.below(16) == 0 {
		card = rng.below(s.people)
	}
	if rng.below(16) == 0 {
		device = rng.below(s.people)
	}
	if rng.below(8) == 0 {
		ip = rng.below(s.people / peoplePerIP)
	}
	// One of three favourites, or one of the popular: rank i about 1/(i+1) as often as rank 0.
	payees := s.people / peoplePerPayee / regions
	favourite := random(payer, rng.below(3))
	payee := favourite.below(payees)
	if rng.below(10) < 3 {
		payee = min(payees, uint64(math.Exp(rng.share()*math.Log(float64(payees+1))))) - 1
	}

	*tx = payment.Transaction{
		Type: payment.TypePayment, Channel: "in_app",
		EventTime: streamStart.Add(time.Duration(s.number) * s.step),
		Amount:    payment.Money{Value: 100 + int64(rng.below(300))*int64(rng.below(300)), Currency: s.currency},
	}
	tx.Payer.Country, tx.Payee.Country, tx.Payee.MCC, tx.Instrument.Kind, tx.Device.Country = "CN", "CN", "5812", "card", "CN"
	s.write("", 1e15+s.number)
	s.write("u-", payer)
	s.write("c-", card)
	s.write("d-", device)
	tx.Device.Addr = netip.AddrFrom4([4]byte{10, byte(ip >> 16), byte(ip >> 8), byte(ip)})
	s.text = tx.Device.Addr.AppendTo(s.text)
	s.ends = append(s.ends, len(s.text))
	s.write("m-", payee*regions+region)
	s.number++
}

func (s *stream) write(prefix string, n uint64) {
	s.text = strconv.AppendUint(append(s.text, prefix...), n, 10)
	s.ends = append(s.ends, len(s.text))
}

// dice is splitmix64: a transaction's own, so that streams of one seed are equal
// whatever is taken from them at once.
type dice uint64

func random(seed, number uint64) dice {
	d := dice(seed*0xd1342543de82ef95 + number)
	return dice(d.roll()) // or the dice of neighbours would roll the same, one behind the other
}

func (d *dice) roll() uint64 {
	*d += 0x9e3779b97f4a7c15
	x := uint64(*d)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (d *dice) below(n uint64) uint64 { return d.roll() % n }
func (d *dice) share() float64        { return float64(d.roll()>>11) / (1 << 53) }
