package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/api"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

func runCommand() *cobra.Command {
	var file, store, rulesDir, http, evidence, group string
	var brokers []string
	var printConfig bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Decide the payments of a Kafka cluster",
		Long: `Decide the payments of a Kafka cluster. Settings come from --config (YAML), from environment
variables named after the keys (kafka.brokers is SLUICE_KAFKA_BROKERS), and from flags; the
later of these wins. --print-config shows what is in force, secrets hidden.`,
		Example: "  sluice run --brokers kafka-1:9092,kafka-2:9092 --store pebble:/var/lib/sluice --rules /etc/sluice/rules\n" +
			"  sluice run --config sluice.yaml --print-config",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := pipeline.LoadConfig(file, os.Environ())
			if err != nil {
				return err
			}
			set := func(name string, to *string, value string) {
				if cmd.Flags().Changed(name) {
					*to = value
				}
			}
			set("store", &config.Store, store)
			set("rules", &config.Rules, rulesDir)
			set("http", &config.HTTP, http)
			set("evidence", &config.Evidence, evidence)
			set("group", &config.Kafka.Group, group)
			if cmd.Flags().Changed("brokers") {
				config.Kafka.Brokers = brokers
			}
			if printConfig {
				text, err := config.Print()
				fmt.Fprint(cmd.OutOrStdout(), text)
				return errors.Join(err, config.Validate())
			}
			return serve(cmd.Context(), config, slog.New(slog.NewTextHandler(os.Stderr, nil)))
		},
	}
	f := cmd.Flags()
	d := pipeline.DefaultConfig()
	f.StringVar(&file, "config", "", "configuration file (YAML)")
	f.StringSliceVar(&brokers, "brokers", d.Kafka.Brokers, "addresses of the Kafka cluster")
	f.StringVar(&group, "group", d.Kafka.Group, "consumer group")
	f.StringVar(&store, "store", d.Store, "pebble:DIR, the embedded store; or redis://HOST:PORT, which members share (several addresses: a cluster; rediss:// with TLS)")
	f.StringVar(&rulesDir, "rules", d.Rules, "folder of the ruleset")
	f.StringVar(&http, "http", d.HTTP, "address of /healthz, /readyz, /metrics and /ruleset; empty for none")
	f.StringVar(&evidence, "evidence", d.Evidence, "which decisions carry the values they rest on: all, held or none")
	f.BoolVar(&printConfig, "print-config", false, "print the settings in force and end")
	return cmd
}

// serve runs the service and its HTTP side until ctx ends or one of them fails.
func serve(ctx context.Context, config pipeline.Config, log *slog.Logger) error {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var listener net.Listener
	if config.HTTP != "" {
		var err error
		if listener, err = net.Listen("tcp", config.HTTP); err != nil {
			return err
		}
	}
	service, err := pipeline.NewService(ctx, config, reg, log)
	if err != nil {
		if listener != nil {
			err = errors.Join(err, listener.Close())
		}
		return err
	}
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return service.Run(ctx) })
	work.Go(func() error { return reloadOnHangup(ctx, service, log) })
	if listener != nil {
		log.Info("listening", "http", listener.Addr().String())
		ops := api.Ops{Service: service, Metrics: reg}
		work.Go(func() error { return api.Serve(ctx, listener, ops.Handler()) })
	}
	return work.Wait()
}

// reloadOnHangup puts the ruleset as it is on disk in force at each SIGHUP.
func reloadOnHangup(ctx context.Context, service *pipeline.Service, log *slog.Logger) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			if err := service.Reload(ctx); err != nil {
				log.Error("reload", "error", err)
			}
		}
	}
}
