package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/deploy"
	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/api"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/traffic"
	"github.com/sluice-risk/sluice/pipeline/view"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

type sandboxOptions struct {
	rules, dir, kafka, http, traffic, evidence string
	rate                                       float64
	seed                                       uint64
	anyKafka, anyHTTP                          bool // the address is only a wish
}

func sandboxCommand() *cobra.Command {
	var o sandboxOptions
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Everything in one process, with nothing installed: broker, store, traffic, verdicts",
		Long: `Start an embedded Kafka broker on a real port, an embedded store, a ruleset and synthetic
traffic with labelled fraud, and print verdicts as they happen. Any Kafka client can connect.
Without --dir it leaves nothing behind; with it, it goes on where it stopped. Ctrl-C ends it.`,
		Example: "  sluice sandbox\n  sluice sandbox --traffic none --kafka 127.0.0.1:9092\n  sluice sandbox --rules my/rules --dir ~/sandbox --rate 100",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.anyKafka, o.anyHTTP = !cmd.Flags().Changed("kafka"), !cmd.Flags().Changed("http")
			return sandbox(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.rules, "rules", "", "folder of the ruleset, or several joined by commas (default: all that are built in, together)")
	f.StringVar(&o.dir, "dir", "", "keep everything in this folder, and go on from it")
	f.StringVar(&o.kafka, "kafka", "127.0.0.1:9092", "address of the embedded broker; a free port is taken if this one is in use")
	f.StringVar(&o.http, "http", "127.0.0.1:8420", "address of /healthz, /readyz, /metrics and /ruleset; a free port is taken if this one is in use")
	f.StringVar(&o.traffic, "traffic", "demo", "demo, none, or a file of records (JSON Lines)")
	f.Float64Var(&o.rate, "rate", 20, "transactions a second")
	f.Uint64Var(&o.seed, "seed", 1, "of the demo traffic")
	f.StringVar(&o.evidence, "evidence", "held", "which decisions carry the values they rest on: all, held or none")
	return cmd
}

func sandbox(ctx context.Context, o sandboxOptions, out io.Writer) (err error) {
	if !(o.rate > 0 && o.rate <= 100_000) {
		return fmt.Errorf("--rate %v: must be between 0 and 100000 transactions a second", o.rate)
	}
	config := pipeline.DefaultConfig()
	config.Topics.Create, config.Topics.Replication, config.Topics.Partitions = true, 1, 4
	config.Kafka.Group, config.Kafka.SessionTimeout = "sluice-sandbox", 6*time.Second
	config.Evidence, config.Store, config.Sandbox = o.evidence, pipeline.MemoryStore, true
	embedded := broker.EmbeddedConfig{Addr: o.kafka}
	if o.dir != "" {
		config.Store = "pebble:" + filepath.Join(o.dir, "store")
		embedded.Dir = filepath.Join(o.dir, "broker")
	}
	if config.Rules = o.rules; o.rules == "" {
		config.Rules = "the rulesets that are built in"
		config.RulesFS = deploy.AllRulesets()
	}

	kafka, err := broker.StartEmbedded(embedded)
	if err != nil && o.anyKafka && errors.Is(err, syscall.EADDRINUSE) {
		embedded.Addr = "127.0.0.1:0"
		kafka, err = broker.StartEmbedded(embedded)
	}
	if err != nil {
		return fmt.Errorf("embedded broker: %w", err)
	}
	defer func() { err = errors.Join(err, kafka.Close()) }()
	config.Kafka.Brokers = []string{kafka.Addr()}

	listener, err := net.Listen("tcp", o.http)
	if err != nil && o.anyHTTP {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return err
	}
	reg := prometheus.NewRegistry()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	service, err := pipeline.NewService(ctx, config, reg, log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	fmt.Fprintf(out, "Sluice sandbox. Ctrl-C ends it.\n  Kafka    %s   (payments.transactions, payments.outcomes → risk.decisions, risk.dead-letters)\n  health   http://%s/healthz, /readyz, /metrics\n  ruleset  %s\n\n",
		kafka.Addr(), listener.Addr(), service.Gate().Rules.Hash())

	// Traffic and the view end first; then the service settles what they sent.
	deciding, stopDeciding := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDeciding()
	serving, failed := errgroup.WithContext(deciding)
	serving.Go(func() error { return service.Run(failed) })
	serving.Go(func() error {
		return api.Serve(failed, listener, (&api.Ops{Service: service, Metrics: reg}).Handler())
	})
	front, stopFront := context.WithCancel(ctx)
	defer stopFront()
	context.AfterFunc(failed, stopFront)
	err = sandboxFront(front, o, config, service, log, out)
	stopDeciding()
	return errors.Join(err, serving.Wait())
}

// sandboxFront sends traffic and prints verdicts until ctx ends.
func sandboxFront(ctx context.Context, o sandboxOptions, config pipeline.Config, service *pipeline.Service, log *slog.Logger, out io.Writer) error {
	conn, err := broker.Open(broker.Config{Brokers: config.Kafka.Brokers, ClientID: "sluice-sandbox"})
	if err != nil {
		return err
	}
	defer conn.Close()
	for tick := time.NewTicker(20 * time.Millisecond); !service.Ready(); {
		select {
		case <-ctx.Done():
			tick.Stop()
			return nil
		case <-tick.C:
		}
	}
	play, err := newSandboxTraffic(o, conn, &config.Topics)
	if err != nil {
		return err
	}
	defer play.close()
	if err := play.past(ctx, service, out); err != nil {
		return err
	}
	stream := &view.Stream{Out: out, Colour: colour(out), PerSecond: 40}
	stream.Header()
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		return view.Follow(ctx, conn, config.Topics.Decisions, stream.Decision)
	})
	work.Go(func() error {
		return view.Follow(ctx, conn, config.Topics.DeadLetters, stream.DeadLetter)
	})
	work.Go(func() error {
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				stream.Totals()
				return nil
			case <-tick.C:
				stream.Totals()
			}
		}
	})
	work.Go(func() error { return play.present(ctx) })
	return work.Wait()
}

// sandboxTraffic is the traffic that was chosen.
type sandboxTraffic struct {
	player traffic.Player
	next   func() (traffic.Event, error) // nil for none
	demo   bool
	close  func()
}

func newSandboxTraffic(o sandboxOptions, conn *broker.Conn, topics *pipeline.Topics) (*sandboxTraffic, error) {
	p := &sandboxTraffic{close: func() {}}
	p.player.Send = func(ctx context.Context, kind payment.RecordKind, events []traffic.Event) error {
		topic := topics.Transactions
		if kind == payment.RecordOutcome {
			topic = topics.Outcomes
		}
		messages := make([]broker.Message, len(events))
		for i, e := range events {
			messages[i] = broker.Message{Key: []byte(e.Key), Value: e.Value}
			if !p.demo { // a file is of its own time
				messages[i].Time = int64(e.Time / 1e6)
			}
		}
		return conn.Produce(ctx, topic, broker.ByKey, messages)
	}
	switch o.traffic {
	case "none":
	case "demo":
		p.demo = true
		past := min(demoPast, time.Duration(demoPastMost/o.rate*float64(time.Second)))
		now := payment.TimeOf(time.Now())
		g := traffic.New(traffic.Config{Seed: o.seed, Start: now.Add(-past), Patient: now, Rate: o.rate, FraudShare: 0.04, OutcomeSpeed: 2000})
		p.next = func() (traffic.Event, error) { return g.Next(), nil }
	default:
		r, err := traffic.OpenFile(o.traffic)
		if err != nil {
			return nil, err
		}
		p.player.Rate, p.next, p.close = o.rate, r.Next, func() { _ = r.Close() }
	}
	return p, nil
}

// The demo begins in the past, so that windows are filled and fraud is under way
// when somebody begins to watch: so long ago, or so many transactions.
const (
	demoPast     = 15 * time.Minute
	demoPastMost = 18_000
	// behind is how old what is called live may be when it is sent: its deadline
	// counts from when it happened.
	behind = 50 * time.Millisecond
)

// past plays what has happened before now at once, and says what became of it.
func (p *sandboxTraffic) past(ctx context.Context, service *pipeline.Service, out io.Writer) error {
	if !p.demo {
		return nil
	}
	began := time.Now()
	before, n := service.Decided(), 0
	var first payment.Time
	live := p.next
	e, err := live()
	lag := behind
	for round := 0; err == nil && lag >= behind && round < 20; round++ { // once more for the time that this took
		sent := time.Now()
		for now := payment.TimeOf(sent); err == nil && e.Time <= now; e, err = live() {
			if first == 0 {
				first = e.Time
			}
			if e.Kind == payment.RecordTransaction {
				n++
			}
			p.player.Add(e)
		}
		if err = errors.Join(err, p.player.Flush(ctx)); err == nil {
			err = awaitDecided(ctx, service, before+n)
		}
		lag = time.Since(sent)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	p.next = func() (traffic.Event, error) { // the one that was taken too early comes first
		p.next = live
		return e, nil
	}
	fmt.Fprintf(out, "%d payments of the last %v were decided in %v, so that windows are not empty. Now live:\n\n",
		n, began.Sub(first.Std()).Round(time.Minute), time.Since(began).Round(time.Millisecond))
	return nil
}

// awaitDecided waits until a service has decided so many payments.
func awaitDecided(ctx context.Context, service *pipeline.Service, n int) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for service.Decided() < n {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// present plays what happens from now on, until ctx ends.
func (p *sandboxTraffic) present(ctx context.Context) error {
	if p.next == nil {
		<-ctx.Done()
		return nil
	}
	err := p.player.Play(ctx, func() (traffic.Event, error) { return p.next() })
	if errors.Is(err, io.EOF) {
		<-ctx.Done() // the file is sent; what it led to goes on
		err = nil
	}
	return err
}

// colour is for terminals only, and NO_COLOR is respected.
func colour(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && isatty.IsTerminal(f.Fd())
}
