package ledger

import (
	"fmt"
	"testing"

	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

func hash(i int) window.TxHash { return window.Key{}.Tx(fmt.Sprint(i)) }

func TestATransactionBelongsToTheBatchThatClaimsItFirst(t *testing.T) {
	x := New(1<<10, forgotten)
	first, second := NewClaims(), NewClaims()
	if _, found, by := x.Claim(hash(1), first); found || by != nil {
		t.Fatal("a new transaction was not free")
	}
	if _, found, by := x.Claim(hash(1), second); found || by != first {
		t.Fatal("a claimed transaction did not name its claims")
	}
	select {
	case <-first.Done():
		t.Fatal("claims were done before they were settled")
	default:
	}
	m := window.Mark{Tx: hash(1), Fingerprint: 7, Verdict: payment.Hold, Latest: payment.Hold, Partition: 2, Offset: 9}
	x.Settle(first, []window.Mark{m}, func(int) []byte { return []byte("bytes") })
	<-first.Done()
	got, found, _ := x.Claim(hash(1), second)
	if !found || got != m {
		t.Fatalf("after it was settled the mark is %+v (found %v)", got, found)
	}
	if b, ok := x.Recent(hash(1)); !ok || string(b) != "bytes" {
		t.Fatalf("its bytes are %q", b)
	}
}

// A transaction that was given back, and is another batch's now, stays that one's when the first batch is settled.
func TestWhatWasGivenBackIsNobodysBusinessAnyMore(t *testing.T) {
	x := New(1<<10, forgotten)
	first, second, third := NewClaims(), NewClaims(), NewClaims()
	h := hash(1)
	if _, _, by := x.Claim(h, first); by != nil {
		t.Fatal("a new transaction is claimed")
	}
	x.Unclaim(h, first)
	if _, _, by := x.Claim(h, second); by != nil {
		t.Fatal("what was given back is claimed still")
	}
	x.Settle(first, nil, nil)
	if _, _, by := x.Claim(h, third); by != second {
		t.Errorf("it belongs to %v, want the second batch", by)
	}
}

func TestClaimsThatAreGivenUpAreFreeAgain(t *testing.T) {
	x := New(1<<10, forgotten)
	first, second := NewClaims(), NewClaims()
	x.Claim(hash(1), first)
	x.Clear()
	<-first.Done()
	if _, found, by := x.Claim(hash(1), second); found || by != nil {
		t.Fatal("a transaction that was given up is not free")
	}
}

func TestTheFirstDecisionOfATransactionCounts(t *testing.T) {
	x := New(1<<10, forgotten)
	x.Add(window.Mark{Tx: hash(1), Offset: -1}, nil) // not published yet: no place to find it
	if x.Known(hash(1)) {
		t.Fatal("a decision without a place is known")
	}
	x.Add(window.Mark{Tx: hash(1), Offset: 3, Verdict: payment.Approve}, nil)
	x.Add(window.Mark{Tx: hash(1), Offset: 8, Verdict: payment.Block}, nil)
	if m, _, _ := x.Claim(hash(1), NewClaims()); m.Offset != 3 || m.Verdict != payment.Approve {
		t.Fatalf("the mark is %+v", m)
	}
}

func TestRecentDecisionsKeepTheirCeiling(t *testing.T) {
	x := New(1000, forgotten)
	for i := range 10_000 {
		x.Add(window.Mark{Tx: hash(i), Offset: int64(i)}, make([]byte, 100))
	}
	kept := 0
	for i := range 10_000 {
		if _, ok := x.Recent(hash(i)); ok {
			kept++
			if i < 9_990 {
				t.Fatalf("decision %d is still at hand, newer ones are not", i)
			}
		}
	}
	if kept != 10 || x.Len() != 10_000 {
		t.Fatalf("%d decisions at hand of %d known, want 10 of 10000", kept, x.Len())
	}
}

func TestTheTopicTellsWhatTheIndexKnew(t *testing.T) {
	key := window.Key{}
	cny, _ := payment.ParseCurrency("CNY")
	tx := payment.Transaction{ID: "t-1", Type: payment.TypePayment, Amount: payment.Money{Value: 5, Currency: cny}}
	tx.Payer.AccountID, tx.Payee.AccountID, tx.Instrument.Token = "u", "m", "c"
	summary := payment.SummaryOf(&tx)
	var d payment.Decision
	d.Reset()
	d.TransactionID, d.Transaction, d.Verdict, d.Source = tx.ID, summary, payment.Block, payment.SourceInvalid
	m, revision, err := MarkOf(key, 4, 17, d.Append(nil))
	want := window.Mark{Tx: key.Tx("t-1"), Fingerprint: Fingerprint(key, &summary), Verdict: payment.Block, Latest: payment.Block, Invalid: true, Partition: 4, Offset: 17}
	if err != nil || revision != 1 || m != want {
		t.Fatalf("%+v (revision %d, %v), want %+v", m, revision, err, want)
	}
	d.Revision = 2
	if m, revision, _ := MarkOf(key, 4, 18, d.Append(nil)); revision != 2 || m.Verdict != 0 || m.Latest != payment.Block {
		t.Fatalf("a later revision was taken for the verdict: %+v", m)
	}
	// Whatever must not differ under one id changes the fingerprint.
	for i, change := range []func(*payment.Summary){
		func(s *payment.Summary) { s.Type = "refund" }, func(s *payment.Summary) { s.Amount.Value++ }, func(s *payment.Summary) { s.Amount.Currency++ },
		func(s *payment.Summary) { s.Payer = "v" }, func(s *payment.Summary) { s.Payee = "n" }, func(s *payment.Summary) { s.Instrument = "" },
	} {
		other := summary
		change(&other)
		if Fingerprint(key, &other) == want.Fingerprint {
			t.Errorf("change %d keeps the fingerprint", i)
		}
	}
	if _, _, err := MarkOf(key, 0, 0, []byte("{")); err == nil {
		t.Fatal("a broken record of the ledger was read")
	}
}

// forgotten is an earlier that knows nothing.
func forgotten(window.TxHash) (window.Mark, bool) { return window.Mark{}, false }
