package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/sluice-risk/sluice/pipeline/broker"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
	"github.com/sluice-risk/sluice/pipeline/window/disk"
	"github.com/sluice-risk/sluice/rules"
)

// Config is everything that `sluice run` can be told: by a file of YAML, by
// environment variables named after the keys (SLUICE_KAFKA_BROKERS), and the
// common ones by flags; the later of these wins.
type Config struct {
	Kafka  KafkaConfig `yaml:"kafka"`
	Topics Topics      `yaml:"topics"`
	Store  string      `yaml:"store"` // pebble:DIR, or redis://HOST:PORT[,HOST:PORT…]
	// StoreFiles is where an embedded store writes; nil is the file system of the machine.
	StoreFiles disk.Files  `yaml:"-"`
	Redis      RedisConfig `yaml:"redis"`
	Rules      string      `yaml:"rules"` // folder of the ruleset
	// RulesKept is the folder in which rulesets that were loaded are kept by their
	// hash, to be activated again; "" is one in the embedded store, and none with
	// another store; none is none.
	RulesKept string         `yaml:"rules_kept"`
	RulesFS   []fs.FS        `yaml:"-"` // the folders of the ruleset, where they are on no disk
	Reload    ReloadConfig   `yaml:"reload"`
	HTTP      string         `yaml:"http"`     // address of /healthz, /readyz, /metrics and /ruleset; "" for none
	Evidence  string         `yaml:"evidence"` // all, held or none
	Windows   WindowConfig   `yaml:"windows"`
	Ledger    LedgerConfig   `yaml:"ledger"`
	Deadlines DeadlineConfig `yaml:"deadlines"`
	Holds     HoldsConfig    `yaml:"holds"`
	Alerts    AlertConfig    `yaml:"alerts"`
	Notices   NoticeConfig   `yaml:"notices"`
	Sandbox   bool           `yaml:"-"` // the broker is embedded and no money is at stake: its settings are not complained of
}

// DeadlineConfig says how decide_by is kept.
type DeadlineConfig struct {
	// Margin before it the default of a payment without a verdict is published;
	// half of what is left when the payment comes if that is less.
	Margin time.Duration `yaml:"margin"`
}

// KafkaConfig says which cluster, as whom, and in which group.
type KafkaConfig struct {
	Brokers        []string      `yaml:"brokers"` // host:port
	Group          string        `yaml:"group"`
	ClientID       string        `yaml:"client_id"`
	SessionTimeout time.Duration `yaml:"session_timeout"`
	TLS            TLSConfig     `yaml:"tls"`
	SASL           SASLConfig    `yaml:"sasl"`
}

// TLSConfig is broker.TLSConfig as it is written. Files are PEM.
type TLSConfig struct {
	Enabled    bool   `yaml:"enabled"`
	CA         string `yaml:"ca"`   // file; "": the authorities of the system
	Cert       string `yaml:"cert"` // file, for mutual TLS, with key
	Key        string `yaml:"key"`
	ServerName string `yaml:"server_name"`
}

// SASLConfig is broker.SASLConfig as it is written.
type SASLConfig struct {
	Mechanism string `yaml:"mechanism"` // PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or ""
	Username  string `yaml:"username"`
	Password  string `yaml:"password" secret:"true"`
}

// Topics names the topics of the contract.
type Topics struct {
	Create       bool   `yaml:"create"`      // make those that are missing
	Partitions   int    `yaml:"partitions"`  // of those that are made
	Replication  int    `yaml:"replication"` // of those that are made; fewer where there are fewer brokers
	Transactions string `yaml:"transactions"`
	Outcomes     string `yaml:"outcomes"`
	Reviews      string `yaml:"reviews"`
	Controls     string `yaml:"controls"`
	Decisions    string `yaml:"decisions"`
	Notices      string `yaml:"notices"`
	Alerts       string `yaml:"alerts"`
	DeadLetters  string `yaml:"dead_letters"`
}

// WindowConfig bounds windows and micro-batches.
type WindowConfig struct {
	Lateness     time.Duration `yaml:"lateness"`      // a transaction later than this enters no window
	OutcomesWait time.Duration `yaml:"outcomes_wait"` // for their transaction, before they are dead letters
	FutureBound  time.Duration `yaml:"future_bound"`  // of event_time after the record's Kafka time
	BatchSize    int           `yaml:"batch_size"`    // transactions in a micro-batch, at most
	// Keep is how far back the logs of entities reach at the least. A feature
	// without a window looks back so far, and a new one can at once.
	Keep          time.Duration `yaml:"keep"`
	MemoryMB      int           `yaml:"memory_mb"`      // what folds may take; an entity that is evicted is read again from its log
	HotEvents     int           `yaml:"hot_events"`     // from so many events on, the older half of an entity's becomes tiles
	ExactDistinct int           `yaml:"exact_distinct"` // distinct values that are counted exactly; more are estimated
	// Records past their deadline are folded in slices of event time, together
	// with those of the other partitions (see pace.go).
	Slice time.Duration `yaml:"slice"`
	// LossBound is how much a store may lose when its server is replaced: so far
	// back everything is read from Kafka again.
	LossBound time.Duration `yaml:"loss_bound"`
	Behind    time.Duration `yaml:"behind"` // from so far back on, a partition makes the decisions of others `behind`
}

// options are those of a store with these settings.
func (c *WindowConfig) options(features []window.Feature) window.Options {
	return window.Options{Features: features, Lateness: c.Lateness, Keep: c.Keep,
		Memory: int64(c.MemoryMB) << 20, HotEvents: c.HotEvents, ExactDistinct: c.ExactDistinct}
}

// LedgerConfig bounds what is known of earlier decisions.
type LedgerConfig struct {
	Keeps       time.Duration `yaml:"keeps"`        // an older transaction is refused
	RecentBytes int           `yaml:"recent_bytes"` // decisions kept at hand for redeliveries
}

// AlertConfig says how operations and analysts are told.
type AlertConfig struct {
	Runbooks string        `yaml:"runbooks"` // folder or URL below which each code has its page, CODE.md
	Repeat   time.Duration `yaml:"repeat"`   // of an alert that stands
}

// NoticeConfig says how payers are told. The limits are for one payer.
type NoticeConfig struct {
	Enabled bool `yaml:"enabled"`
	PerHour int  `yaml:"per_hour"`
	PerDay  int  `yaml:"per_day"`
}

// DefaultConfig is what holds where nothing else is said.
func DefaultConfig() Config {
	limits := payment.DefaultLimits()
	return Config{
		Kafka: KafkaConfig{Brokers: []string{"127.0.0.1:9092"}, Group: "sluice", ClientID: "sluice", SessionTimeout: 10 * time.Second},
		Topics: Topics{Partitions: 8, Replication: 3, Transactions: "payments.transactions", Outcomes: "payments.outcomes", Reviews: "risk.reviews", Controls: "risk.controls",
			Decisions: "risk.decisions", Notices: "risk.notices", Alerts: "risk.alerts", DeadLetters: "risk.dead-letters"},
		Store: storePrefix + "sluice-data", Redis: RedisConfig{Prefix: "sluice", Timeout: 100 * time.Millisecond, SegmentKB: 64}, Rules: "rules", Reload: DefaultReloadConfig(), HTTP: "127.0.0.1:8420", Evidence: "held",
		Windows: WindowConfig{Lateness: 7 * 24 * time.Hour, OutcomesWait: 24 * time.Hour, FutureBound: limits.FutureBound, BatchSize: 500,
			Keep: 90 * 24 * time.Hour, MemoryMB: 4096, HotEvents: 1 << 18, ExactDistinct: 1 << 16,
			Slice: time.Second, Behind: time.Minute, LossBound: 10 * time.Second},
		Deadlines: DeadlineConfig{Margin: 50 * time.Millisecond},
		Ledger:    LedgerConfig{Keeps: limits.LedgerKeeps, RecentBytes: 64 << 20},
		Holds:     DefaultHoldsConfig(),
		Alerts:    AlertConfig{Runbooks: "deploy/runbooks", Repeat: 15 * time.Minute},
		Notices:   NoticeConfig{Enabled: true, PerHour: 5, PerDay: 20},
	}
}

// owner is what a store belongs to: positions and marks of other topics, or
// offsets of another group, would not agree with what it holds.
func (c *Config) owner() string {
	return fmt.Sprintf("group %s, topics %s and %s", c.Kafka.Group, c.Topics.Transactions, c.Topics.Decisions)
}

// ruleset loads the rules.
func (c *Config) ruleset() (*rules.Ruleset, error) {
	if c.RulesFS != nil {
		return rules.LoadFS(c.RulesFS...)
	}
	return rules.LoadSteady(c.Rules)
}

// rulesKept is the folder in which rulesets are kept, "" for none.
func (c *Config) rulesKept() string {
	switch {
	case c.RulesKept == "none":
		return ""
	case c.RulesKept != "" || c.onRedis() || c.storeDir() == "":
		return c.RulesKept
	}
	return filepath.Join(c.storeDir(), "rulesets")
}

// needed are the topics without which the service cannot work.
func (t *Topics) needed() []broker.Topic {
	var all []broker.Topic
	for _, name := range []string{t.Transactions, t.Outcomes, t.Reviews, t.Controls, t.Decisions, t.Notices, t.Alerts, t.DeadLetters} {
		topic := broker.Topic{Name: name, Partitions: t.Partitions, Replication: t.Replication, MinInSync: 2}
		if name == t.Controls {
			topic.Partitions = 1 // what one record does, a later one takes back
		}
		switch name {
		case t.Reviews, t.Controls, t.Decisions, t.DeadLetters:
			topic.Configs = map[string]string{"retention.ms": "-1"} // the ledger is not thrown away by a default
		}
		all = append(all, topic)
	}
	return all
}

// Limits are the bounds on records.
func (c *Config) Limits() payment.Limits {
	l := payment.DefaultLimits()
	l.FutureBound, l.LedgerKeeps = c.Windows.FutureBound, c.Ledger.Keeps
	return l
}

// LoadConfig reads a file over the defaults, and the environment over both.
// An unknown key or variable, or a value of the wrong type, is an error that
// names it. file may be "".
func LoadConfig(file string, environ []string) (Config, error) {
	c := DefaultConfig()
	var problems error
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return c, err
		}
		problems = c.fromFile(file, data)
	}
	return c, errors.Join(problems, c.fromEnvironment(environ))
}

const envPrefix = "SLUICE_"

func (c *Config) fromEnvironment(environ []string) error {
	set := map[string]string{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, envPrefix) && !strings.HasPrefix(name, envPrefix+"TEST_") && name != envPrefix+"CACHE" {
			set[name] = value
		}
	}
	var errs []error
	c.each(func(key string, v reflect.Value, _ bool) {
		name := envName(key)
		value, ok := set[name]
		if !ok {
			return
		}
		delete(set, name)
		if err := setValue(v, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	})
	for name := range set {
		errs = append(errs, fmt.Errorf("%s: no such setting", name))
	}
	return errors.Join(errs...)
}

// envName is the variable of a key: kafka.brokers is SLUICE_KAFKA_BROKERS.
func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// each visits every setting with its dotted key, in the order of the fields.
func (c *Config) each(visit func(key string, v reflect.Value, secret bool)) {
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			key := prefix + f.Tag.Get("yaml")
			if f.Tag.Get("yaml") == "-" {
				continue
			}
			if f.Type.Kind() == reflect.Struct {
				walk(key+".", v.Field(i))
			} else {
				visit(key, v.Field(i), f.Tag.Get("secret") == "true")
			}
		}
	}
	walk("", reflect.ValueOf(c).Elem())
}

func setValue(v reflect.Value, text string) error {
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = text
	case *[]string:
		*p = strings.Split(text, ",")
	case *bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		*p = b
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is no whole number", text)
		}
		*p = n
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is no duration such as 10s or 2h", text)
		}
		*p = d
	default:
		return fmt.Errorf("cannot be set from the environment")
	}
	return nil
}

// Print writes the settings in force as YAML, secrets hidden.
func (c Config) Print() (string, error) {
	c.Store = c.storeName()
	c.each(func(_ string, v reflect.Value, secret bool) {
		if secret && v.Kind() == reflect.String && v.Len() > 0 {
			v.SetString("(hidden)")
		}
	})
	b, err := yaml.Marshal(c)
	return string(b), err
}

// Validate reports every setting that is out of its bounds.
func (c *Config) Validate() error {
	var errs []error
	bad := func(ok bool, key string, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
		}
	}
	bad(len(c.Kafka.Brokers) > 0 && c.Kafka.Brokers[0] != "", "kafka.brokers", "at least one host:port is needed")
	bad(c.Kafka.Group != "", "kafka.group", "must not be empty")
	bad(c.Kafka.SessionTimeout >= time.Second && c.Kafka.SessionTimeout <= 5*time.Minute, "kafka.session_timeout", "%v is not between 1s and 5m", c.Kafka.SessionTimeout)
	seen := map[string]string{}
	for key, name := range map[string]string{"topics.transactions": c.Topics.Transactions, "topics.outcomes": c.Topics.Outcomes, "topics.reviews": c.Topics.Reviews,
		"topics.controls": c.Topics.Controls, "topics.decisions": c.Topics.Decisions, "topics.notices": c.Topics.Notices, "topics.alerts": c.Topics.Alerts, "topics.dead_letters": c.Topics.DeadLetters} {
		bad(name != "", key, "must not be empty")
		bad(seen[name] == "", key, "%q is also %s", name, seen[name])
		seen[name] = key
	}
	bad(c.Topics.Partitions >= 1 && c.Topics.Partitions <= 10000, "topics.partitions", "%d is not between 1 and 10000", c.Topics.Partitions)
	bad(c.Topics.Replication >= 1 && c.Topics.Replication <= 32, "topics.replication", "%d is not between 1 and 32", c.Topics.Replication)
	if err := c.checkStore(); err != nil {
		errs = append(errs, err)
	}
	bad(c.Redis.Prefix != "" && !strings.ContainsAny(c.Redis.Prefix, ":{}"), "redis.prefix", "%q must not be empty and hold no colon or brace", c.Redis.Prefix)
	bad(c.Redis.Timeout >= 10*time.Millisecond && c.Redis.Timeout <= time.Minute, "redis.timeout", "%v is not between 10ms and 1m", c.Redis.Timeout)
	bad(c.Redis.SegmentKB >= 4 && c.Redis.SegmentKB <= 1024, "redis.segment_kb", "%d is not between 4 and 1024", c.Redis.SegmentKB)
	bad(c.Rules != "", "rules", "the folder of the ruleset is needed")
	if _, err := ParseEvidence(c.Evidence); err != nil {
		errs = append(errs, err)
	}
	bad(c.Windows.Lateness >= time.Minute && c.Windows.Lateness <= 400*24*time.Hour, "windows.lateness", "%v is not between 1m and 9600h", c.Windows.Lateness)
	bad(c.Windows.OutcomesWait >= time.Second, "windows.outcomes_wait", "%v is less than 1s", c.Windows.OutcomesWait)
	bad(c.Windows.FutureBound >= 0 && c.Windows.FutureBound <= 24*time.Hour, "windows.future_bound", "%v is not between 0s and 24h", c.Windows.FutureBound)
	bad(c.Windows.BatchSize >= 1 && c.Windows.BatchSize <= 10000, "windows.batch_size", "%d is not between 1 and 10000", c.Windows.BatchSize)
	bad(c.Windows.Keep >= time.Hour && c.Windows.Keep <= 800*24*time.Hour, "windows.keep", "%v is not between 1h and 19200h", c.Windows.Keep)
	bad(c.Windows.MemoryMB >= 16, "windows.memory_mb", "%d is less than 16", c.Windows.MemoryMB)
	bad(c.Windows.HotEvents >= 1024 && c.Windows.HotEvents <= 1<<24, "windows.hot_events", "%d is not between 1024 and 16777216", c.Windows.HotEvents)
	bad(c.Windows.ExactDistinct >= 16, "windows.exact_distinct", "%d is less than 16", c.Windows.ExactDistinct)
	bad(c.Windows.Slice >= time.Millisecond && c.Windows.Slice <= time.Hour, "windows.slice", "%v is not between 1ms and 1h", c.Windows.Slice)
	bad(c.Windows.Behind >= time.Second, "windows.behind", "%v is less than 1s", c.Windows.Behind)
	bad(c.Windows.LossBound >= time.Second && c.Windows.LossBound <= 24*time.Hour, "windows.loss_bound", "%v is not between 1s and 24h", c.Windows.LossBound)
	bad(c.Deadlines.Margin >= time.Millisecond && c.Deadlines.Margin <= 10*time.Second, "deadlines.margin", "%v is not between 1ms and 10s", c.Deadlines.Margin)
	bad(c.Ledger.Keeps >= c.Windows.Lateness, "ledger.keeps", "%v is less than windows.lateness (%v)", c.Ledger.Keeps, c.Windows.Lateness)
	bad(c.Ledger.RecentBytes >= 0, "ledger.recent_bytes", "%d is negative", c.Ledger.RecentBytes)
	bad(c.Alerts.Runbooks != "", "alerts.runbooks", "the folder or URL of the runbooks is needed")
	bad(c.Alerts.Repeat >= time.Minute && c.Alerts.Repeat <= 24*time.Hour, "alerts.repeat", "%v is not between 1m and 24h", c.Alerts.Repeat)
	bad(c.Notices.PerHour >= 1 && c.Notices.PerHour <= 1000, "notices.per_hour", "%d is not between 1 and 1000", c.Notices.PerHour)
	bad(c.Notices.PerDay >= c.Notices.PerHour && c.Notices.PerDay <= 1000, "notices.per_day", "%d is not between notices.per_hour (%d) and 1000", c.Notices.PerDay, c.Notices.PerHour)
	errs = append(errs, c.Reload.Validate(), c.Holds.Validate(), c.brokerConfig().Validate())
	return errors.Join(errs...)
}

// brokerConfig is what the broker package needs of the settings.
func (c *Config) brokerConfig() broker.Config {
	t, s := c.Kafka.TLS, c.Kafka.SASL
	return broker.Config{
		Brokers: c.Kafka.Brokers, ClientID: c.Kafka.ClientID,
		TLS:  broker.TLSConfig{Enabled: t.Enabled, CAFile: t.CA, CertFile: t.Cert, KeyFile: t.Key, ServerName: t.ServerName},
		SASL: broker.SASLConfig{Mechanism: s.Mechanism, Username: s.Username, Password: s.Password},
	}
}
