package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/rules"
	"github.com/spf13/cobra"
)

func logCommand() *cobra.Command {
	var file, store, format string
	var limit int
	cmd := &cobra.Command{
		Use:   "log KIND ID",
		Short: "Print the log of an entity: the entries that its windows are made of",
		Long: `Print the log of an entity in its order: the payments that named it, and what became known of
them, each with its position. KIND is ` + strings.Join(identified(), ", ") + `,
or two of these joined by an underscore; then both IDs follow. An ip is written as an address.

It changes nothing, and a gate may be running on the same store. Identifiers are kept as hashes; only
what was asked for has a name. Without --config the whole journal of an embedded store is read, and
outcomes and verdicts are shown even if no feature looks at them; with it, the gate's own index of the
logs of its ruleset is used, which takes no time, and shows what its features look at.

An entity that no payment has named is said, with exit status 1.`,
		Example: "  sluice log card c-7f --store pebble:/var/lib/sluice\n" +
			"  sluice log payer_payee u-1001 m-88 --config sluice.yaml --limit 20\n" +
			"  sluice log ip 203.0.113.7 --format json | jq 'select(.kind == \"outcome\")'",
		Args:      cobra.RangeArgs(2, 3),
		ValidArgs: identified(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "text" && format != "json" {
				return fmt.Errorf("--format %q: must be text or json", format)
			}
			if limit < 0 {
				return fmt.Errorf("--limit %d is negative", limit)
			}
			of, tx, err := entityNamed(args[0], args[1:])
			if err != nil {
				return err
			}
			config, err := pipeline.LoadConfig(file, os.Environ())
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("store") {
				config.Store = store
			}
			logs, err := openLogs(cmd.Context(), &config, of, file != "")
			if err != nil {
				return err
			}
			p := logPrinter{out: bufio.NewWriter(cmd.OutOrStdout()), json: format == "json", names: namesIn(logs.Key(), tx)}
			err = p.print(cmd.Context(), logs, of, logs.Key().EntityKey(of, tx), limit)
			if err = errors.Join(err, logs.Close()); err == nil && p.printed == 0 {
				fmt.Fprintf(os.Stderr, "sluice: %s %s: no payment in this store's logs names it\n", of, strings.Join(args[1:], " "))
				return errBad
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "configuration file (YAML) of the gate: its store, and its ruleset")
	f.StringVar(&store, "store", pipeline.DefaultConfig().Store, "pebble:DIR, the embedded store; or redis://HOST:PORT")
	f.StringVar(&format, "format", "text", "text or json (a line for each entry)")
	f.IntVar(&limit, "limit", 0, "print the last entries only, so many; 0 for all")
	return cmd
}

// identified are the kinds that have an identifier: all but a charge, which is
// made of several fields.
func identified() []string {
	return slices.DeleteFunc(window.EntityNames(), func(name string) bool { return name == window.Charge.String() })
}

// entityNamed makes a payment that names an entity, by which stores know it.
func entityNamed(kind string, ids []string) (window.Entity, *payment.Transaction, error) {
	of, ok := window.ParseEntity(kind)
	if !ok || of.First == window.Charge {
		return of, nil, fmt.Errorf("kind %q: must be one of %s, or two different ones joined by _", kind, strings.Join(identified(), ", "))
	}
	kinds := []window.Kind{of.First}
	if of.Pair {
		kinds = append(kinds, of.Second)
	}
	if len(ids) != len(kinds) {
		return of, nil, fmt.Errorf("%s: %d identifier(s) needed, and %d given", of, len(kinds), len(ids))
	}
	tx := &payment.Transaction{}
	for i, k := range kinds {
		if err := identify(tx, k, ids[i]); err != nil {
			return of, nil, err
		}
	}
	for i, k := range kinds {
		if got := (window.Entity{First: k}).ID(tx); got != ids[i] || got == "" {
			return of, nil, fmt.Errorf("%s %q: no payment can name it so", k, ids[i]) // a card and another instrument
		}
	}
	return of, tx, nil
}

// identify writes an identifier into the field of a payment where its kind stands.
func identify(tx *payment.Transaction, k window.Kind, id string) (err error) {
	switch k {
	case window.Payer:
		tx.Payer.AccountID = id
	case window.Payee:
		tx.Payee.AccountID = id
	case window.Instrument:
		tx.Instrument.Token = id
	case window.Card:
		tx.Instrument.Kind, tx.Instrument.Token = "card", id
	case window.Device:
		tx.Device.ID = id
	case window.IP:
		if tx.Device.Addr, err = netip.ParseAddr(id); err != nil || tx.Device.Addr.Zone() != "" {
			return fmt.Errorf("ip %q is no address such as 203.0.113.7 or 2001:db8::7", id)
		}
		tx.Device.IP, tx.Device.Addr = id, tx.Device.Addr.Unmap()
	case window.Terminal:
		tx.Terminal.ID = id
	case window.Email:
		tx.Payer.Email = id
	case window.Phone:
		tx.Payer.Phone = id
	case window.BIN:
		tx.Instrument.BIN = id
	case window.Order:
		tx.OrderID = id
	case window.Bank:
		tx.Instrument.Bank = id
	}
	return nil
}

// openLogs opens a store to read the log of an entity; indexed says that the
// ruleset of the settings is the gate's.
func openLogs(ctx context.Context, config *pipeline.Config, of window.Entity, indexed bool) (window.Store, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if config.Store == pipeline.MemoryStore {
		return nil, errors.New("a store in memory is its gate's alone: only pebble:DIR and redis:// can be read beside it")
	}
	dir, embedded := strings.CutPrefix(config.Store, "pebble:")
	if !embedded {
		// Without features: those of a member decide which logs all members write.
		return pipeline.OpenStore(ctx, config, nil, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	}
	// The index serves these features; one that looks at everything has none, and the journal is read.
	features := []window.Feature{{Entity: of, Name: "log", Aggregate: window.Count, ReadsStatus: true, ReadsVerdict: true}}
	if indexed {
		rs, err := rules.Load(config.Rules)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(rs.Features(), func(f window.Feature) bool { return f.Entity == of }) {
			features = rs.Features()
		}
	}
	return window.Open(window.Options{Dir: dir, ReadOnly: true, Features: features, Keep: config.Windows.Keep})
}

// namesIn returns the names of what a payment names, by kind and hash: these
// entries of a log can be printed by name.
func namesIn(key window.Key, tx *payment.Transaction) map[window.Fact]string {
	names := map[window.Fact]string{}
	for _, kind := range identified() {
		k, _ := window.ParseKind(kind)
		if hash := key.RefOf(k, tx); hash != 0 {
			names[window.Fact{Name: kind, Value: fmt.Sprintf("%016x", hash)}] = window.Entity{First: k}.ID(tx)
		}
	}
	return names
}

// logPrinter prints entries as a table, or as JSON Lines.
type logPrinter struct {
	out     *bufio.Writer
	json    bool
	names   map[window.Fact]string
	printed int
}

// print prints the last entries of a log, all if limit is 0.
func (p *logPrinter) print(ctx context.Context, logs window.Store, of window.Entity, key uint64, limit int) error {
	var failed error
	var last []window.LogEntry // a ring: seen % limit is the place of the next
	seen := 0
	err := logs.Log(ctx, of, key, func(e window.LogEntry) bool {
		switch {
		case limit == 0:
			failed = p.entry(e)
		case len(last) < limit:
			last = append(last, e)
		default:
			last[seen%limit] = e
		}
		seen++
		return failed == nil
	})
	for i := range last {
		failed = errors.Join(failed, p.entry(last[(seen+i)%len(last)]))
	}
	return errors.Join(err, failed, p.out.Flush())
}

func (p *logPrinter) entry(e window.LogEntry) error {
	position := fmt.Sprintf("%d/%d", e.Position.Segment, e.Position.Offset)
	p.printed++
	if p.json {
		fields := map[string]any{}
		for _, f := range e.Words.Facts {
			fields[f.Name] = f.Value
			if name, ok := p.names[f]; ok {
				fields[f.Name] = name
			}
		}
		return json.NewEncoder(p.out).Encode(struct {
			Position string         `json:"position"`
			Kind     string         `json:"kind"`
			Time     *payment.Time  `json:"time,omitempty"`
			Fields   map[string]any `json:"fields"`
		}{position, e.Words.Kind, timeOf(e), fields})
	}
	for i, f := range e.Words.Facts {
		if name, ok := p.names[f]; ok {
			e.Words.Facts[i].Value = shown(name)
		}
	}
	if p.printed == 1 {
		fmt.Fprintf(p.out, "%-16s %s\n", "position", "entry (times are UTC, amounts in minor units)")
	}
	_, err := fmt.Fprintf(p.out, "%-16s %s\n", position, e.Words)
	return err
}

// timeOf is the time of an entry; a seal has none.
func timeOf(e window.LogEntry) *payment.Time {
	if e.Words.Time == 0 {
		return nil
	}
	return &e.Words.Time
}

// shown quotes a name that would not be one word in a table.
func shown(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) || r == '"' }) {
		return strconv.Quote(name)
	}
	return name
}
