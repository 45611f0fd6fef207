package traffic

import (
	"sync"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// read is a transaction of the stream, decoded.
type read struct {
	Event
	tx payment.Transaction
}

// transactions decodes those among the events; every one must be accepted.
func transactions(t *testing.T, events []Event) []read {
	t.Helper()
	d := payment.Decoder{Limits: payment.DefaultLimits()}
	var all []read
	for _, e := range events {
		if e.Kind != payment.RecordTransaction {
			continue
		}
		r := read{Event: e}
		if refusal := d.Transaction(e.Value, e.Time, &r.tx); refusal != nil {
			t.Fatalf("%v: %s", refusal, e.Value)
		}
		r.tx.AuthMethods, r.tx.Attributes = nil, nil // the decoder's
		all = append(all, r)
	}
	return all
}

// hours returns a stream of some hours, long enough for people to have habits.
func hours(t *testing.T) []read {
	t.Helper()
	decodeHours.Do(func() { someHours = transactions(t, take(New(Config{Seed: 11, OutcomeSpeed: 2000}), 600_000)) })
	return someHours
}

var (
	decodeHours sync.Once
	someHours   []read // made once, changed by no test
)

func labelled(all []read, l Label) []read {
	var some []read
	for _, r := range all {
		if r.Label == l {
			some = append(some, r)
		}
	}
	return some
}

func TestSharesAreAsStated(t *testing.T) {
	all := hours(t)
	frauds, channels := map[Label]int{}, map[string]int{}
	want := map[string]float64{}
	types := map[payment.Type]int{}
	for _, s := range scenes {
		want[s.channel] += s.share
	}
	genuine := 0
	for _, r := range all {
		frauds[r.Label]++
		if r.Label == Genuine {
			genuine++
			channels[r.tx.Channel]++
			types[r.tx.Type]++
		}
	}
	share := 1 - float64(genuine)/float64(len(all))
	t.Logf("%d transactions, fraud %.4f, %v, channels %v, types %v", len(all), share, frauds, channels, types)
	if share < 0.018 || share > 0.022 {
		t.Errorf("fraud share is %.4f, want about 0.02", share)
	}
	for _, l := range Labels() {
		if frauds[l] < 100 {
			t.Errorf("%s: only %d transactions", l, frauds[l])
		}
	}
	for channel, percent := range want {
		got := 100 * float64(channels[channel]) / float64(genuine)
		if got < 0.85*percent || got > 1.15*percent {
			t.Errorf("channel %s has %.2f %% of the genuine transactions, want about %g", channel, got, percent)
		}
	}
	for _, name := range payment.TypeNames() {
		if kind, _ := payment.ParseType(name); types[kind] < genuine/500 {
			t.Errorf("only %d genuine transactions of type %s", types[kind], name)
		}
	}
}

func TestCardTestingIsManySmallAttemptsThenALargeOne(t *testing.T) {
	byDevice := map[string][]read{}
	for _, r := range labelled(hours(t), CardTesting) {
		byDevice[r.tx.Device.ID] = append(byDevice[r.tx.Device.ID], r)
	}
	complete := 0
	for device, tries := range byDevice {
		last := tries[len(tries)-1]
		small := tries[:len(tries)-1]
		if fen(last) < 100_000 {
			continue // cut off by the end of the stream
		}
		complete++
		if len(small) < 6 || small[len(small)-1].Time-small[0].Time > payment.Time(10*time.Minute) {
			t.Errorf("device %s: %d small attempts within %s", device, len(small), time.Duration(small[len(small)-1].Time-small[0].Time))
		}
		for _, r := range small {
			if fen(r) > 1000 || r.tx.Instrument != last.tx.Instrument || r.tx.Payee.AccountID != last.tx.Payee.AccountID || r.tx.Channel != "web" {
				t.Errorf("device %s: attempt %s beside %s", device, r.Value, last.Value)
			}
		}
	}
	if complete < 10 {
		t.Errorf("only %d complete", complete)
	}
}

// fen is the amount in fen at the rates of this package.
func fen(r read) float64 {
	return float64(r.tx.Amount.Value) * rates[r.tx.Amount.Currency.String()] * 100 / float64(pow10(r.tx.Amount.Currency.Digits()))
}

func pow10(n int) int {
	p := 1
	for range n {
		p *= 10
	}
	return p
}

func TestAccountTakeoverIsANewDeviceAbroadAndALargeAmount(t *testing.T) {
	all := hours(t)
	owners := map[string]map[string]bool{} // account to its devices
	for _, r := range labelled(all, Genuine) {
		if owners[r.tx.Payer.AccountID] == nil {
			owners[r.tx.Payer.AccountID] = map[string]bool{}
		}
		owners[r.tx.Payer.AccountID][r.tx.Device.ID] = true
	}
	for _, r := range labelled(all, AccountTakeover) {
		devices := owners[r.tx.Payer.AccountID]
		if len(devices) == 0 || devices[r.tx.Device.ID] || fen(r) < 250_000 {
			t.Errorf("%s: devices %v", r.Value, devices)
		}
	}
}

func TestMuleFanInIsManyPayersOfOneNewAccountThatWithdraws(t *testing.T) {
	all := hours(t)
	payers, withdrawn := map[string]map[string]bool{}, map[string]int64{}
	received := map[string]int64{}
	for _, r := range labelled(all, MuleFanIn) {
		if r.tx.Type == payment.TypeWithdrawal {
			withdrawn[r.tx.Payer.AccountID] = r.tx.Amount.Value
			continue
		}
		if payers[r.tx.Payee.AccountID] == nil {
			payers[r.tx.Payee.AccountID] = map[string]bool{}
		}
		payers[r.tx.Payee.AccountID][r.tx.Payer.AccountID] = true
		received[r.tx.Payee.AccountID]++
	}
	if len(withdrawn) < 10 {
		t.Errorf("only %d accounts withdrew", len(withdrawn))
	}
	for account := range withdrawn {
		if len(payers[account]) < 7 {
			t.Errorf("account %s withdrew after %d payers", account, len(payers[account]))
		}
	}
	for _, r := range labelled(all, Genuine) {
		if received[r.tx.Payee.AccountID] > 0 {
			t.Errorf("a genuine payer pays a mule: %s", r.Value)
		}
	}
}

func TestAmountSpikeIsFiveTimesTheUsual(t *testing.T) {
	all := hours(t)
	sum, count := map[string]float64{}, map[string]float64{}
	below, spikes := 0, 0
	for _, r := range all {
		id := r.tx.Payer.AccountID
		switch {
		case r.Label == AmountSpike:
			spikes++
			if fen(r) < 5*sum[id]/count[id] {
				below++
			}
		case r.Label == Genuine && r.tx.Type == payment.TypePayment && r.tx.Channel != "transit" && r.tx.Channel != "bill":
			sum[id] += fen(r)
			count[id]++
		}
	}
	// What a person paid so far scatters around what is usual.
	if below*5 > spikes {
		t.Errorf("%d of %d spikes are below five times the mean so far", below, spikes)
	}
}

func TestImpossibleTravelIsImpossibleAndNobodyElseDoesIt(t *testing.T) {
	type place struct {
		lat, lon float64
		at       payment.Time
	}
	last := map[string]place{}
	flights, fast := 0, 0
	for _, r := range hours(t) {
		d := &r.tx.Device
		if !d.Located || r.Label != Genuine && r.Label != ImpossibleTravel {
			continue
		}
		id := r.tx.Payer.AccountID
		before, known := last[id]
		kmh := distance(before.lat, before.lon, d.Lat, d.Lon) / (time.Duration(r.Time-before.at).Hours() + 1e-9)
		switch {
		case r.Label == ImpossibleTravel:
			flights++
			if !known || kmh < 1000 {
				t.Errorf("%.0f km/h: %s", kmh, r.Value)
			}
		default:
			if known && r.tx.Type != payment.TypeRefund && kmh > 900 {
				fast++
			}
			last[id] = place{d.Lat, d.Lon, r.Time}
		}
	}
	if flights < 50 || fast > 0 {
		t.Errorf("%d impossible travels, %d genuine payments as fast", flights, fast)
	}
}

func TestDuplicateChargeIsTheSameOrderWithinAMinute(t *testing.T) {
	orders := map[string]read{}
	for _, r := range hours(t) {
		if r.Label != DuplicateCharge {
			if r.tx.OrderID != "" && r.tx.Type == payment.TypePayment {
				orders[r.tx.OrderID] = r
			}
			continue
		}
		first, ok := orders[r.tx.OrderID]
		if !ok || first.tx.ID == r.tx.ID || first.tx.Payer != r.tx.Payer || first.tx.Payee != r.tx.Payee || first.tx.Amount != r.tx.Amount || r.Time-first.Time > 60e9 {
			t.Errorf("%s after %s", r.Value, first.Value)
		}
	}
}

func TestRefundAbuseIsManyRefundsOfOnePayer(t *testing.T) {
	all := hours(t)
	bought := map[string]read{}
	refunds := map[string]int{}
	for _, r := range all {
		bought[r.tx.ID] = r
		if r.tx.Type != payment.TypeRefund {
			continue
		}
		first, ok := bought[r.tx.OriginalTransactionID]
		if !ok || first.tx.Payer != r.tx.Payer || first.tx.Amount.Value < r.tx.Amount.Value || first.tx.Type == payment.TypeRefund {
			t.Errorf("refund of nothing like it: %s", r.Value)
		}
		if r.Label == RefundAbuse {
			refunds[r.tx.Payer.AccountID]++
		}
	}
	many := 0
	for _, n := range refunds {
		if n >= 6 {
			many++
		}
	}
	if many*10 < len(refunds)*8 || many < 5 {
		t.Errorf("%d of %d abusers return at least six purchases", many, len(refunds))
	}
}

func TestCompromisedTerminalIsUsedDaysLaterAndElsewhere(t *testing.T) {
	// Real days: a slow stream.
	all := transactions(t, take(New(Config{Seed: 2, Rate: 0.5}), 600_000))
	type visit struct {
		terminal, country string
		at                payment.Time
	}
	visits := map[string][]visit{} // of a card
	uses := 0
	for _, r := range all {
		card := r.tx.Instrument.Token
		switch r.Label {
		case Genuine:
			if r.tx.Channel == "pos" {
				visits[r.tx.Payer.AccountID] = append(visits[r.tx.Payer.AccountID], visit{r.tx.Terminal.ID, r.tx.Terminal.Country, r.Time})
			}
		case CompromisedTerminal:
			uses++
			if card == "" {
				t.Errorf("no card: %s", r.Value)
			}
			if r.tx.Channel != "pos" {
				continue // the fraudster's own account
			}
			early := false
			for _, v := range visits[r.tx.Payer.AccountID] {
				early = early || r.Time-v.at > payment.Time(20*time.Hour) && v.terminal != r.tx.Terminal.ID
			}
			if !early {
				t.Errorf("never at a terminal a day before: %s", r.Value)
			}
		}
	}
	if uses < 50 {
		t.Errorf("only %d uses in %s", uses, time.Duration(all[len(all)-1].Time-all[0].Time))
	}
}
