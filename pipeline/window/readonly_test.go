package window

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// cardLog is the log of a card as people read it.
func cardLog(t testing.TB, s *Embedded, token string) (lines []string) {
	t.Helper()
	var tx payment.Transaction
	tx.Instrument.Kind, tx.Instrument.Token = "card", token
	of := Entity{First: Card}
	if err := s.Log(t.Context(), of, s.Key().EntityKey(of, &tx), func(e LogEntry) bool {
		lines = append(lines, fmt.Sprint(e.Position, " ", e.Words))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return lines
}

// payByCard appends payments n to n+count-1, settles each third one and has all of them decided.
func payByCard(s *Embedded, n, count int) error {
	var items []*Item
	var marks []Mark
	var outcomes []*OutcomeItem
	for i := n; i < n+count; i++ {
		tx := &payment.Transaction{ID: fmt.Sprint("t", i), Type: payment.TypePayment, EventTime: payment.Time(1_800_000_000e9).Add(time.Duration(i) * time.Minute)}
		tx.Payer.AccountID = fmt.Sprint("u", i%7)
		tx.Instrument.Kind, tx.Instrument.Token = "card", fmt.Sprint("c", i%5)
		items = append(items, &Item{Tx: tx, KafkaTime: tx.EventTime})
		marks = append(marks, Mark{Tx: s.Key().Tx(tx.ID), Verdict: payment.Approve, Offset: int64(i)})
		if i%3 == 0 {
			outcomes = append(outcomes, &OutcomeItem{Outcome: &payment.Outcome{TransactionID: tx.ID, ID: fmt.Sprint("o", i), Kind: payment.OutcomeSettled, EventTime: tx.EventTime.Add(time.Second)}})
		}
	}
	ctx := context.Background()
	return errors.Join(s.Append(ctx, items), s.Outcomes(ctx, outcomes), s.Decided(ctx, marks))
}

// cardFeatures look at outcomes and verdicts, so that both are in the logs of cards.
func cardFeatures() []Feature {
	return []Feature{
		{Entity: Entity{First: Card}, Name: "n_1h", Aggregate: Count, Length: time.Hour, ReadsStatus: true, ReadsVerdict: true},
		{Entity: Entity{First: Payer}, Name: "n_1h", Aggregate: Count, Length: time.Hour},
	}
}

// inFolder is what stands in a folder: names, sizes, times and contents.
func inFolder(t testing.TB, dir string) (all []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || d.IsDir() {
			all = append(all, fmt.Sprint(name, info.ModTime()))
			return err
		}
		data, err := os.ReadFile(name)
		all = append(all, fmt.Sprint(name, info.Size(), info.Mode(), info.ModTime(), string(data)))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestReadOnlyStoreShowsWhatItsOwnerHasAndChangesNothing(t *testing.T) {
	opts := Options{Dir: t.TempDir(), Features: cardFeatures(), SegmentBytes: 8 << 10, SyncEvery: time.Hour}
	owner, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = owner.Close() }()
	for n := 0; n < 2000; n += 10 {
		if err := payByCard(owner, n, 10); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(owner.journal.segments); n < 20 {
		t.Fatalf("the test needs more than %d segments", n)
	}
	want := map[string][]string{}
	for _, card := range []string{"c0", "c3", "c4", "never-seen"} {
		want[card] = cardLog(t, owner, card)
	}
	if n := len(want["c0"]); n != 400+400+134 || len(want["never-seen"]) != 0 {
		t.Fatalf("the owner's log of c0 has %d entries", n)
	}
	owner.mu.Lock()
	err = owner.index.work(true) // what it does beside its payments would be taken for the reader's doing
	owner.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(opts.Dir, "journal-*"))
	if err != nil {
		t.Fatal(err)
	}
	tail := segments[len(segments)-1]
	whole, err := os.ReadFile(tail)
	if err != nil {
		t.Fatal(err)
	}
	withStatus := func(of Entity) []Feature {
		return []Feature{{Entity: of, Name: "n", Aggregate: Count, Length: time.Hour, ReadsStatus: true, ReadsVerdict: true}}
	}
	for name, c := range map[string]struct {
		features []Feature
		prepare  func() error
	}{
		"with the owner's indexes":     {opts.Features, func() error { return nil }},
		"with indexes of others":       {withStatus(Entity{First: Card}), func() error { return nil }},
		"a record that is cut":         {opts.Features, func() error { return os.WriteFile(tail, append(slices.Clone(whole), whole[40:77]...), 0o600) }},
		"a record that is not written": {opts.Features, func() error { return os.WriteFile(tail, append(slices.Clone(whole), make([]byte, 64)...), 0o600) }},
		"an index is being written": {opts.Features, func() error {
			return os.WriteFile(filepath.Join(opts.Dir, runName(1, 1)+".part"), []byte(runMagic), 0o600)
		}},
	} {
		if err := c.prepare(); err != nil {
			t.Fatal(err)
		}
		before := inFolder(t, opts.Dir)
		reader, err := Open(Options{Dir: opts.Dir, ReadOnly: true, Features: c.features})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for card := range want {
			if got := cardLog(t, reader, card); !slices.Equal(got, want[card]) {
				t.Errorf("%s: the log of %s has %d entries, and its owner's %d", name, card, len(got), len(want[card]))
			}
		}
		if m, ok := reader.Earlier(reader.Key().Tx("t77")); !ok || m.Offset != 77 {
			t.Errorf("%s: the decision on t77: %v %v", name, m, ok)
		}
		if got, want := reader.Since(Entity{First: Card}), owner.Since(Entity{First: Card}); got != want {
			t.Errorf("%s: the log is whole since %v, not %v", name, got, want)
		}
		if err := reader.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.Equal(before, inFolder(t, opts.Dir)) {
			t.Errorf("%s: the folder was changed", name)
		}
		if err := os.WriteFile(tail, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_ = os.Remove(filepath.Join(opts.Dir, runName(1, 1)+".part"))

	// Indexes that are gone are not made again, and nothing needs them.
	indexes, err := filepath.Glob(filepath.Join(opts.Dir, "index-*"))
	if err != nil || len(indexes) < 2 {
		t.Fatalf("%v %v", indexes, err)
	}
	for _, gone := range [][]string{indexes[:1], indexes[1:]} {
		for _, name := range gone {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		before := inFolder(t, opts.Dir)
		reader, err := Open(Options{Dir: opts.Dir, ReadOnly: true, Features: opts.Features})
		if err != nil {
			t.Fatal(err)
		}
		if got := cardLog(t, reader, "c3"); !slices.Equal(got, want["c3"]) {
			t.Errorf("without %d indexes the log has %d entries", len(gone), len(got))
		}
		if err := reader.Close(); err != nil {
			t.Error(err)
		}
		if !slices.Equal(before, inFolder(t, opts.Dir)) {
			t.Error("the folder was changed")
		}
	}
}

// What the owner is doing at that moment is not in its way: a segment that is
// complete and the next not begun, or begun and empty.
func TestReadOnlyStoreOpensBetweenTwoSegments(t *testing.T) {
	opts := Options{Dir: t.TempDir(), Features: cardFeatures(), SyncEvery: time.Hour}
	owner, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = owner.Close() }()
	if err := payByCard(owner, 0, 50); err != nil {
		t.Fatal(err)
	}
	want := cardLog(t, owner, "c0")
	owner.mu.Lock()
	err = owner.journal.seal()
	owner.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(opts.Dir, "journal-00000002")
	for _, step := range []struct {
		next string
		make func() error
	}{
		{"begun", func() error { return nil }},
		{"empty", func() error { return os.Truncate(next, 0) }},
		{"not there", func() error { return os.Remove(next) }},
	} {
		if err := step.make(); err != nil {
			t.Fatal(err)
		}
		reader, err := Open(Options{Dir: opts.Dir, ReadOnly: true, Features: opts.Features})
		if err != nil {
			t.Fatalf("the next segment is %s: %v", step.next, err)
		}
		if got := cardLog(t, reader, "c0"); len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("the next segment is %s: %d entries, want %d", step.next, len(got), len(want))
		}
		if err := reader.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestReadOnlyStoreRefusesToBeWritten(t *testing.T) {
	opts := Options{Dir: t.TempDir(), Features: cardFeatures()}
	owner, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := payByCard(owner, 0, 10); err != nil {
		t.Fatal(err)
	}
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}
	before := inFolder(t, opts.Dir)
	opts.ReadOnly = true
	reader, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	known := &payment.Transaction{ID: "t1", Type: payment.TypePayment, EventTime: payment.Time(1_800_000_000e9)}
	for name, err := range map[string]error{
		"Append":       reader.Append(ctx, []*Item{{Tx: known}}),
		"Note":         reader.Note(ctx, []*Item{{Tx: known}}),
		"Decided":      reader.Decided(ctx, []Mark{{Tx: reader.Key().Tx("t1")}}),
		"Outcomes":     reader.Outcomes(ctx, []*OutcomeItem{{Outcome: &payment.Outcome{TransactionID: "t1", Kind: payment.OutcomeSettled}}}),
		"ForgetParked": reader.ForgetParked(ctx, maxTime),
		"Outage":       reader.Outage(ctx, Outage{ID: "k", Until: 1}),
	} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := len(cardLog(t, reader, "c1")); got != 5 { // two payments and their verdicts, and an outcome
		t.Errorf("after all that was refused the log has %d entries", got)
	}
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
	if !slices.Equal(before, inFolder(t, opts.Dir)) {
		t.Error("the folder was changed")
	}
}

func TestReadOnlyStoreSaysWhatIsNotThereOrDamaged(t *testing.T) {
	says := func(dir string, words ...string) {
		t.Helper()
		_, err := Open(Options{Dir: dir, ReadOnly: true, Features: cardFeatures()})
		for _, w := range append(words, dir) {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%v does not say %q", err, w)
			}
		}
	}
	missing := filepath.Join(t.TempDir(), "missing")
	says(missing, "no such file or directory")
	if _, err := os.Stat(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the folder was made")
	}
	says(t.TempDir(), "there is no journal in this directory")

	opts := Options{Dir: t.TempDir(), Features: cardFeatures(), SegmentBytes: 8 << 10}
	owner, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 500; n += 10 {
		if err := payByCard(owner, n, 10); err != nil {
			t.Fatal(err)
		}
	}
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(opts.Dir, "journal-00000002")
	data, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	// A log that is damaged in the middle is not shown as if it were a shorter one.
	broken := slices.Clone(data)
	broken[len(broken)/2] ^= 0x55
	if err := os.WriteFile(second, broken, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := Open(Options{Dir: opts.Dir, ReadOnly: true, Features: cardFeatures()[:1]})
	if err != nil {
		t.Fatal(err)
	}
	var tx payment.Transaction
	tx.Instrument.Kind, tx.Instrument.Token = "card", "c0"
	of := Entity{First: Card}
	err = reader.Log(t.Context(), of, reader.Key().EntityKey(of, &tx), func(LogEntry) bool { return true })
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "segment 2") {
		t.Errorf("%v", err)
	}
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	says(opts.Dir, "segment 2 is missing")
}

// While its owner appends, rolls, merges indexes and gives up what is old, a
// store that is opened to be read has a part of the log without a gap: no more
// than the owner ever wrote, and all that it had when it was opened and kept.
func TestReadOnlyStoreBesideABusyOwnerHasNoGap(t *testing.T) {
	opts := Options{Dir: t.TempDir(), Features: cardFeatures(), SegmentBytes: 4 << 10, Lateness: time.Hour, Keep: time.Hour, KeepMarks: time.Hour}
	owner, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var written sync.Mutex
	last := 0
	var appending sync.WaitGroup
	appending.Go(func() {
		for n := 0; ; n += 10 {
			select {
			case <-stop:
				return
			default:
			}
			if err := payByCard(owner, n, 10); err != nil {
				t.Error(err)
				return
			}
			written.Lock()
			last = n + 10
			written.Unlock()
		}
	})
	times := func(lines []string) (minutes []int) {
		for _, line := range lines {
			if _, words, ok := strings.Cut(line, "} "); ok && strings.Contains(words, " payment ") {
				at, _ := payment.ParseTime(words[:strings.Index(words, " ")])
				minutes = append(minutes, int((at-payment.Time(1_800_000_000e9))/payment.Time(time.Minute)))
			}
		}
		return minutes
	}
	dropped := false
	for round := 0; round < 2000 && !(round >= 200 && dropped); round++ {
		written.Lock()
		had := last
		written.Unlock()
		reader, err := Open(Options{Dir: opts.Dir, ReadOnly: true, Features: opts.Features})
		if err != nil {
			if had == 0 {
				continue // not even begun
			}
			t.Error(err)
			break
		}
		got := times(cardLog(t, reader, "c0"))
		if had > 0 && (len(got) == 0 || got[len(got)-1] < had-5) {
			t.Errorf("the log ends with %v, and the owner had %d payments", got, had)
		}
		for i := 1; i < len(got); i++ {
			if got[i] != got[i-1]+5 {
				t.Errorf("payment %d follows on %d", got[i], got[i-1])
			}
		}
		dropped = dropped || len(got) > 0 && got[0] > 0
		if err := reader.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			break
		}
	}
	if !dropped {
		t.Error("the owner gave nothing up: the test shows less than it says")
	}
	close(stop)
	appending.Wait()
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWordsOfAnEntry(t *testing.T) {
	store, err := Open(Options{Features: cardFeatures()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	tx := payment.Transaction{ID: "t0", Type: payment.TypePayment, Channel: "web", EventTime: payment.Time(1_800_000_000e9)}
	tx.Amount.Value = 128
	tx.Amount.Currency, _ = payment.ParseCurrency("USD")
	tx.Payer.AccountID, tx.Payer.Country = "u0", "CN"
	tx.Instrument.Kind, tx.Instrument.Token = "card", "c0"
	tx.Device.Lat, tx.Device.Lon, tx.Device.Located = 31.2, -121.5, true
	ctx := t.Context()
	if err := errors.Join(
		store.Append(ctx, []*Item{{Tx: &tx, KafkaTime: tx.EventTime, Base: 909, Based: true}}),
		store.Outcomes(ctx, []*OutcomeItem{{Outcome: &payment.Outcome{TransactionID: "t0", ID: "o", Kind: payment.OutcomeSettled, EventTime: tx.EventTime.Add(time.Second)}}}),
		store.Decided(ctx, []Mark{{Tx: store.Key().Tx("t0"), Verdict: payment.Hold, Offset: -1}}),
	); err != nil {
		t.Fatal(err)
	}
	key := store.Key()
	id := fmt.Sprintf("%016x", key.Tx("t0").Lo)
	want := []string{
		fmt.Sprintf("2027-01-15T08:00:00.000Z  payment %s  128 USD (909 in the base currency) channel=web instrument_kind=card payer_country=CN lat=31.2 lon=-121.5 payer=%016x instrument=%016x card=%016x",
			id, key.Ref(Payer, "u0"), key.Ref(Instrument, "c0"), key.Ref(Card, "c0")),
		"2027-01-15T08:00:01.000Z  settled of " + id,
		"2027-01-15T08:00:00.000Z  verdict hold on " + id,
	}
	for i, line := range cardLog(t, store, "c0") {
		if _, words, _ := strings.Cut(line, "} "); words != want[i] {
			t.Errorf("\n%s, want\n%s", words, want[i])
		}
	}
}
