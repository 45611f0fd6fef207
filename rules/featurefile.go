package rules

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// The bounds of a feature.
const (
	minWindow, maxWindow = time.Second, 800 * 24 * time.Hour
)

var featureNamePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

const featureNameHint = "a name such as attempts: small letters, digits and _ after the first, at most 64"

// featureFiles gathers the features of all files of features/.
type featureFiles struct {
	lang     *language[window.Event]
	location *time.Location
	fields   map[string]*window.Field
	taken    map[string]string // full name to where it was defined; fields of the transaction too
	defined  map[string]string // full name to its definition and file: another file may repeat it word for word
	features []window.Feature
	places   []place         // of each, its window where it has one
	broken   map[string]bool // full names whose feature has a problem
}

func newFeatureFiles(r *rates, location *time.Location) *featureFiles {
	f := &featureFiles{lang: eventNames(r), location: location, fields: map[string]*window.Field{}, taken: map[string]string{}, defined: map[string]string{}, broken: map[string]bool{}}
	fields := window.Fields()
	for i := range fields {
		f.fields[fields[i].Name] = &fields[i]
	}
	for name := range ruleNames(nil, &Policy{}, r).names {
		f.taken[name] = "a field of the transaction"
	}
	return f
}

// read takes the features of one file.
func (f *featureFiles) read(n node) {
	found := n.object("a file of features", field{"features", func(v node) {
		all, ok := v.list("features")
		if !ok {
			return
		}
		for _, one := range all {
			f.feature(one)
		}
	}})
	n.needs("a file of features", found, "features")
}

// windowOf is one window of a feature: the suffix of its name and its extent.
type windowOf struct {
	node
	suffix   string
	length   time.Duration
	calendar window.Calendar
}

// feature takes one feature, which is as many as it has windows.
func (f *featureFiles) feature(n node) {
	before := len(n.problems)
	var one window.Feature
	var name string
	var windows []windowOf
	found := n.object("a feature",
		field{"entity", func(v node) {
			s, ok := v.text("entity")
			if !ok {
				return
			}
			if one.Entity, ok = window.ParseEntity(s); !ok {
				v.suggest(v.place(), didYouMean(s, window.EntityNames()), "entity must be one of %s, or two different ones joined by _, charge excepted", join(window.EntityNames()))
			}
		}},
		field{"name", func(v node) { name, _ = v.name("name", featureNamePattern, featureNameHint) }},
		field{"windows", func(v node) { windows = f.windows(v) }},
		field{"value", func(v node) { f.value(v, &one) }},
		field{"where", func(v node) {
			if src, ok := v.expression("where"); ok {
				one.Where = f.predicate(src, &one)
			}
		}},
		field{"delay", func(v node) { one.Delay, _ = v.duration("delay", time.Second, maxWindow) }},
		field{"description", func(v node) { v.text("description") }})
	if found == nil {
		return
	}
	n.needs("a feature", found, "entity", "name", "value")
	var texts []string
	for _, key := range []string{"entity", "name", "value", "where", "delay"} {
		text := ""
		if v := found[key]; v.ast != nil {
			text, _ = node{&report{}, v.src, v.ast}.text(key)
		}
		texts = append(texts, strings.Join(strings.Fields(text), " "))
	}
	if _, ok := found["windows"]; !ok {
		windows = []windowOf{{node: n}}
		if len(n.problems) == before && !wholeLog(one.Aggregate) {
			n.suggest(n.place(), "write windows: [10m]", "%s needs windows", one.Aggregate)
		}
	}
	for _, w := range windows {
		made := one
		made.Name, made.Length, made.Calendar = name+w.suffix, w.length, w.calendar
		if w.calendar != window.NotCalendar {
			made.Location = f.location
		}
		full := made.FullName()
		if len(n.problems) > before {
			if name != "" {
				f.broken[full] = true
			}
			continue
		}
		definition := strings.Join(texts, "\n")
		if file, same := strings.CutSuffix(f.defined[full], "\n"+definition); same && file != n.src.name {
			continue
		}
		if where, ok := f.taken[full]; ok {
			w.at(w.place(), "the name %s is taken by %s", full, where)
			continue
		}
		f.taken[full], f.defined[full] = "the feature at "+placeText(n.place()), n.src.name+"\n"+definition
		f.features, f.places = append(f.features, made), append(f.places, w.place())
	}
}

// wholeLog reports whether an aggregate makes sense without a window.
func wholeLog(a window.Aggregate) bool {
	return a == window.Last || a == window.SinceLast || a == window.SpeedKMH || a == window.SinceFirst
}

func (f *featureFiles) windows(n node) []windowOf {
	all, ok := n.list("windows")
	if !ok {
		return nil
	}
	if len(all) == 0 {
		n.at(n.place(), "the list of windows is empty")
	}
	var out []windowOf
	for _, v := range all {
		w := windowOf{node: v}
		if s, ok := v.ast.(*ast.StringNode); ok {
			w.suffix = "_" + s.Value
		}
		switch s := strings.TrimPrefix(w.suffix, "_"); s {
		case "calendar_day":
			w.calendar = window.CalendarDay
		case "calendar_month":
			w.calendar = window.CalendarMonth
		default:
			var ok bool
			if w.length, ok = parseDuration(s); !ok || w.length < minWindow || w.length > maxWindow {
				v.suggest(v.place(), didYouMean(s, []string{"calendar_day", "calendar_month"}), "a window must be a length of time from %s to %s, such as 10m or 30d, or calendar_day or calendar_month",
					formatDuration(minWindow), formatDuration(maxWindow))
			}
		}
		if w.calendar != window.NotCalendar && f.location == nil {
			v.suggest(v.place(), "write time_zone in policy.yaml, such as time_zone: Asia/Shanghai", "%s begins at local midnight, and the policy has no time_zone", w.suffix[1:])
		}
		out = append(out, w) // with a problem too: rules that name it are not to blame
	}
	return out
}

// value reads count, distinct(device), share(fraud).
func (f *featureFiles) value(n node, to *window.Feature) {
	src, ok := n.scalar("value")
	if !ok {
		return
	}
	name, rest, parenthesis := strings.Cut(src.text, "(")
	aggregate, known := window.ParseAggregate(name)
	if !known {
		n.suggest(n.place(), didYouMean(name, window.AggregateNames()), "value must be one of %s", join(window.AggregateNames()))
		return
	}
	to.Aggregate = aggregate
	takes := aggregate == window.Distinct || aggregate == window.Share || aggregate == window.Last
	argument, closed := strings.CutSuffix(rest, ")")
	switch {
	case !takes && parenthesis:
		n.suggest(n.place(), "write "+name, "%s takes nothing in parentheses", name)
		return
	case takes && !(parenthesis && closed):
		n.suggest(n.place(), "write "+map[window.Aggregate]string{window.Distinct: "distinct(device)", window.Share: "share(fraud)", window.Last: "last(device)"}[aggregate],
			"%s needs something in parentheses", name)
		return
	case !takes:
		return
	}
	inside := src.part(len(name)+1, len(name)+1+len(argument))
	if aggregate == window.Share {
		to.Condition = f.predicate(inside, to)
		return
	}
	field, ok := f.fields[argument]
	at := inside.at(span{0, len(argument)})
	switch {
	case !ok:
		n.suggest(at, didYouMean(argument, slices.Collect(maps.Keys(f.fields))), "unknown field %s", argument)
	case aggregate == window.Last && argument == "amount_original":
		n.suggest(at, "write last(amount)", "amounts in different currencies cannot be told apart afterwards")
	default:
		to.Field = field
		f.reads(field, to)
	}
}

func (f *featureFiles) reads(field *window.Field, to *window.Feature) {
	to.ReadsStatus = to.ReadsStatus || field.ChangesByOutcome
	to.ReadsVerdict = to.ReadsVerdict || field.ChangesByVerdict
}

// predicate compiles a condition about one event; nil after a problem. One that
// fails is unknown: it must never stop the fold.
func (f *featureFiles) predicate(src scalar, to *window.Feature) window.Predicate {
	compiled, ok := compile(f.lang, src)
	if !ok {
		return nil
	}
	for _, name := range compiled.names {
		f.reads(f.fields[name], to)
	}
	if !compiled.canFail {
		return compiled.eval
	}
	return func(e *window.Event) (t window.Truth) {
		defer func() {
			if recover() != nil {
				t = window.Unknown
			}
		}()
		return compiled.eval(e)
	}
}
