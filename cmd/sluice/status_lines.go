package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// What is bad. A page that cries about what is as always is not read.
const (
	badInTime = 0.999          // less than this share answered in time
	badLag    = 1000           // records behind that nobody catches up with, or not within
	badDrain  = time.Minute    //
	badSkew   = 1.0            // seconds that a clock may be wrong
	oldHold   = 12 * time.Hour // a hold that nobody works
)

const notMeasured = "not measured"

// lines are what there is to know of a member, the most urgent first.
func (r *reading) lines() []statusLine {
	var all []statusLine
	if line, ok := r.alerts(); ok {
		all = append(all, line)
	}
	return append(all,
		r.verdicts(), r.inTime(),
		r.causes("defaults", "sluice_defaults_total", "deadline_defaults", "payments got the policy's default instead of a verdict"),
		r.causes("degraded", "sluice_degraded_total", "degraded_operation", "decisions lack something they normally use"),
		r.lag("lag", "sluice_lag_records", "is the member short of processor time, or the store slow? more members take partitions over; nothing is lost, old payments get their default at once", "topic", "partition"),
		r.lag("not folded", "sluice_unfolded_records", "windows lack these payments until the store takes them: they are read from Kafka again by themselves", "partition"),
		r.store(), r.broker(), r.lost(), r.deadLetters(), r.rules(), r.duplicates(), r.holds(), r.clock(), r.ruleset())
}

// runbook names the page of an alert, after what to do first.
func runbook(code, first string) string { return first + " (deploy/runbooks/" + code + ".md)" }

// bad makes a line bad.
func (l statusLine) bad(next string) statusLine {
	l.Bad, l.Next = true, next
	return l
}

func (r *reading) verdicts() statusLine {
	const name = "sluice_decisions_total"
	l := statusLine{Name: "verdicts", Text: notMeasured}
	if !r.measured(name) {
		return l
	}
	l.Text = fmt.Sprintf("%s/s, %s since start", amount(r.perSecond(name)), amount(r.now(name)))
	total := r.grew(name)
	for _, verdict := range []string{"approve", "hold", "block"} {
		if total > 0 {
			l.Text += fmt.Sprintf(", %s %s", verdict, percent(r.grew(name, "verdict", verdict)/total))
		}
	}
	if behind := r.now("sluice_lag_records"); total == 0 && behind > 0 {
		return l.bad(fmt.Sprintf("nothing is decided and %s records wait: the log says what it waits for", amount(behind)))
	}
	return l
}

// inTime counts what the broker acknowledged; what came too late for anybody is none of ours.
func (r *reading) inTime() statusLine {
	const yes, no = "sluice_answered_in_time_total", "sluice_answered_late_total"
	l := statusLine{Name: "in time", Text: notMeasured}
	if !r.measured(yes) {
		return l
	}
	share := func(in, late float64) string {
		if in+late == 0 {
			return "none answered"
		}
		return percent(in / (in + late))
	}
	in, late := r.grew(yes), r.grew(no)
	l.Text = fmt.Sprintf("%s now, %s since start", share(in, late), share(r.now(yes), r.now(no)))
	if half, ok := r.quantile("sluice_answer_seconds", 0.5); ok {
		most, _ := r.quantile("sluice_answer_seconds", 0.99)
		l.Text += fmt.Sprintf("; half within %s, 99 %% within %s", seconds(half), seconds(most))
	}
	if tooLate := r.grew("sluice_arrived_late_total"); tooLate > 0 {
		l.Text += fmt.Sprintf("; %s/s reached Kafka after their deadline", amount(tooLate/math.Max(r.seconds, 0.001)))
	}
	if late > 0 && in/(in+late) < badInTime {
		return l.bad(runbook("deadline_defaults", "look at what is slow: the store, the broker, or a rule, below"))
	}
	return l
}

// causes are of a counter that should stand still.
func (r *reading) causes(name, metric, code, what string) statusLine {
	l := statusLine{Name: name, Text: notMeasured}
	if !r.measured(metric) {
		return l
	}
	now := map[string]float64{}
	for cause := range r.by(metric, "cause") {
		if rate := r.perSecond(metric, "cause", cause); rate > 0 {
			now[cause] = rate
		}
	}
	if l.Text = "none now"; len(now) > 0 {
		l.Text = "now " + each(now, "/s")
	}
	if since := r.by(metric, "cause"); r.now(metric) > 0 {
		l.Text += "; since start " + each(since, "")
	}
	if len(now) > 0 {
		return l.bad(runbook(code, what))
	}
	return l
}

// lag says how far behind partitions are, and when they will have caught up if it goes on like this.
func (r *reading) lag(name, metric, next string, by ...string) statusLine {
	l := statusLine{Name: name, Text: notMeasured}
	if !r.measured(metric) {
		return l
	}
	type partition struct {
		name        string
		behind, was float64
		drain       time.Duration // 0: it does not drain
	}
	var behind []partition
	key := func(m *dto.Metric) string {
		var parts []string
		for _, label := range by {
			parts = append(parts, labelOf(m, label))
		}
		return strings.Join(parts, "/")
	}
	was := map[string]float64{}
	for _, m := range r.before[metric].GetMetric() {
		was[key(m)] = valueOf(m)
	}
	for _, m := range r.after[metric].GetMetric() {
		p := partition{name: key(m), behind: valueOf(m)}
		if p.was = was[p.name]; p.behind == 0 {
			continue
		}
		if p.was > p.behind {
			p.drain = time.Duration(p.behind / (p.was - p.behind) * r.seconds * float64(time.Second))
		}
		behind = append(behind, p)
	}
	if l.Text = "none"; len(behind) == 0 {
		return l
	}
	slices.SortFunc(behind, func(a, b partition) int { return cmp.Or(cmp.Compare(b.behind, a.behind), cmp.Compare(a.name, b.name)) })
	var texts []string
	stuck := false
	for i, p := range behind {
		says := "drained in " + p.drain.Round(time.Second).String()
		switch {
		case p.drain == 0 && p.behind > p.was:
			says = "growing"
		case p.drain == 0:
			says = "not moving"
		}
		stuck = stuck || p.behind > badLag && (p.drain == 0 || p.drain > badDrain)
		if i < 5 {
			texts = append(texts, fmt.Sprintf("%s: %s (%s)", p.name, amount(p.behind), says))
		}
	}
	if more := len(behind) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("%d more", more))
	}
	l.Text = fmt.Sprintf("%s, by partition: %s", count(r.now(metric), "record"), strings.Join(texts, ", "))
	if stuck {
		return l.bad(next)
	}
	return l
}

func (r *reading) store() statusLine {
	l := statusLine{Name: "store", Text: notMeasured}
	var texts []string
	if r.measured("sluice_store_away") {
		texts = append(texts, "there")
		if r.now("sluice_store_away") > 0 {
			texts[0] = "away"
		}
	}
	if n := r.grew("sluice_breaker_open_total"); r.measured("sluice_breaker_open_total") {
		texts = append(texts, fmt.Sprintf("breaker opened %s since start, %s just now", count(r.now("sluice_breaker_open_total"), "time"), amount(n)))
	}
	if r.measured("sluice_store_entities") {
		texts = append(texts, fmt.Sprintf("%s entities in %s", amount(r.now("sluice_store_entities")), megabytes(r.now("sluice_store_fold_bytes"))))
	}
	if len(texts) > 0 {
		l.Text = strings.Join(texts, "; ")
	}
	if r.now("sluice_store_away") > 0 || r.grew("sluice_breaker_open_total") > 0 {
		return l.bad(runbook("store_away", "payments are answered without it; bring it back, and what is missing is folded by itself"))
	}
	return l
}

func (r *reading) broker() statusLine {
	l := statusLine{Name: "broker", Text: notMeasured}
	if !r.measured("sluice_broker_retries_total") {
		return l
	}
	retries := r.perSecond("sluice_broker_retries_total")
	l.Text = fmt.Sprintf("%s retries/s, %s since start", amount(retries), amount(r.now("sluice_broker_retries_total")))
	if moved := r.grew("sluice_group_generations_total"); moved > 0 {
		l.Text += fmt.Sprintf("; partitions were dealt out anew %s just now", count(moved, "time"))
	}
	if r.measured("sluice_broker_shortfall") {
		if n := r.now("sluice_broker_shortfall"); n > 0 {
			l.Text += fmt.Sprintf("; %s of topics short of what is promised (deploy/runbooks/broker_settings.md)", count(n, "setting"))
		}
	} else {
		l.Text += "; its settings are not known"
	}
	if retries > 0 {
		return l.bad("the log names the calls that fail; while no leader can be reached, nobody is answered")
	}
	return l
}

func (r *reading) lost() statusLine {
	l := statusLine{Name: "lost records", Text: notMeasured}
	if !r.measured("sluice_lost_ranges_total") {
		return l
	}
	n := r.now("sluice_lost_ranges_total")
	if l.Text = "none"; n > 0 {
		l.Text = count(n, "range") + " since start"
		return l.bad("they were gone from Kafka, or damaged there, before they were decided: the log names them; their senders must send again")
	}
	return l
}

func (r *reading) deadLetters() statusLine {
	const metric = "sluice_refused_records_total"
	l := statusLine{Name: "dead letters", Text: notMeasured}
	if !r.measured(metric) {
		return l
	}
	if l.Text = "none since start"; r.now(metric) > 0 {
		l.Text = fmt.Sprintf("%s/s; since start %s", amount(r.perSecond(metric)), each(r.by(metric, "reason"), ""))
	}
	if r.grew(metric, "reason", "id_conflict") > 0 {
		return l.bad(runbook("id_conflict", "ids come again with other content: sluice dead-letters list --reason id_conflict --since 10m --long"))
	}
	if r.grew(metric) > 0 {
		return l.bad("sluice dead-letters list --since 10m; after the fix: sluice dead-letters resubmit --reason R --since T")
	}
	return l
}

func (r *reading) rules() statusLine {
	l := statusLine{Name: "rules", Text: notMeasured}
	if !r.measured("sluice_rule_hits_total") {
		return l
	}
	now := map[string]float64{}
	for rule := range r.by("sluice_rule_hits_total", "rule") {
		if n := r.grew("sluice_rule_hits_total", "rule", rule); n > 0 {
			now[rule] = n / math.Max(r.seconds, 0.001)
		}
	}
	if l.Text = "no hits now"; len(now) > 0 {
		l.Text = "hits now " + most(now, 5, "/s")
	}
	if failed := r.grew("sluice_rule_failed_total"); failed > 0 {
		bad := map[string]float64{}
		for rule := range r.by("sluice_rule_failed_total", "rule") {
			if n := r.grew("sluice_rule_failed_total", "rule", rule); n > 0 {
				bad[rule] = n / math.Max(r.seconds, 0.001)
			}
		}
		l.Text += "; failing: " + most(bad, 5, "/s")
		return l.bad("a rule that fails takes no part in a verdict: the decisions name it")
	}
	return l
}

func (r *reading) duplicates() statusLine {
	l := statusLine{Name: "duplicates", Text: notMeasured}
	var texts []string
	if r.measured("sluice_duplicates_total") {
		texts = append(texts, cmp.Or(each(r.by("sluice_duplicates_total", "kind"), ""), "none")+" since start")
	}
	if r.measured("sluice_repeated_transactions_total") {
		texts = append(texts, count(r.now("sluice_repeated_transactions_total"), "payment")+" came again and got the stored decision")
	}
	if len(texts) > 0 {
		l.Text = strings.Join(texts, "; ")
	}
	return l
}

func (r *reading) holds() statusLine {
	l := statusLine{Name: "holds", Text: notMeasured}
	if !r.measured("sluice_holds_open") {
		return l
	}
	oldest := time.Duration(r.now("sluice_hold_oldest_seconds") * float64(time.Second))
	if l.Text = fmt.Sprintf("%s open", amount(r.now("sluice_holds_open"))); r.now("sluice_holds_open") > 0 && r.measured("sluice_hold_oldest_seconds") {
		l.Text += ", the oldest for " + oldest.Round(time.Second).String()
	}
	if oldest > oldHold && r.now("sluice_holds_open") > 0 {
		return l.bad(runbook("holds_unworked", "nobody works the queue: sluice holds list"))
	}
	return l
}

func (r *reading) clock() statusLine {
	l := statusLine{Name: "clock", Text: notMeasured}
	if !r.measured("sluice_clock_skew_seconds") {
		return l
	}
	skew := r.now("sluice_clock_skew_seconds")
	if l.Text = fmt.Sprintf("%s from the broker's", seconds(math.Abs(skew))); math.Abs(skew) > badSkew {
		return l.bad(runbook("clock_skew", "deadlines are judged by a wrong clock: look at the machine's time service"))
	}
	return l
}

func (r *reading) ruleset() statusLine {
	l := statusLine{Name: "ruleset", Text: notMeasured}
	for hash := range r.by("sluice_ruleset_info", "hash") {
		l.Text = short(hash)
	}
	if n := r.now("sluice_ruleset_reloads_total", "result", "done"); n > 0 {
		l.Text += ", reloaded " + count(n, "time")
	}
	if n := r.now("sluice_ruleset_reloads_total", "result", "refused"); n > 0 {
		l.Text += fmt.Sprintf(", %s refused since start", count(n, "reload"))
	}
	if since := r.now("sluice_ruleset_since_seconds"); since > 0 {
		l.Text += ", in force since " + clockTime(unixTime(since))
	}
	if since := r.now("sluice_ruleset_refused_since_seconds"); since > 0 {
		l.Text += "; its folder was refused at " + clockTime(unixTime(since))
		return l.bad(runbook("bad_ruleset", "the last good one stays in force: sluice rules active says what is wrong"))
	}
	if r.grew("sluice_ruleset_reloads_total", "result", "failed") > 0 {
		return l.bad(runbook("bad_ruleset", "a good ruleset cannot be put in force: is the store there?"))
	}
	return l
}

// unixTime is the time of a metric.
func unixTime(seconds float64) time.Time { return time.UnixMilli(int64(seconds * 1000)) }

// alerts is a line only where the member tells of alerts.
func (r *reading) alerts() (statusLine, bool) {
	const metric = "sluice_alerts_firing"
	l := statusLine{Name: "alerts", Text: "none"}
	standing := r.by(metric, "code")
	maps.DeleteFunc(standing, func(_ string, n float64) bool { return n <= 0 })
	if len(standing) > 0 {
		codes := slices.Sorted(maps.Keys(standing))
		l.Text = strings.Join(codes, ", ")
		return l.bad("deploy/runbooks/" + strings.Join(codes, ".md, deploy/runbooks/") + ".md"), true
	}
	return l, r.measured(metric)
}

// each writes what is not 0, the largest first: "a 3, b 1".
func each(values map[string]float64, unit string) string { return most(values, len(values), unit) }

// most writes the n largest.
func most(values map[string]float64, n int, unit string) string {
	names := slices.SortedFunc(maps.Keys(values), func(a, b string) int {
		return cmp.Or(cmp.Compare(values[b], values[a]), cmp.Compare(a, b))
	})
	var texts []string
	for _, name := range names {
		if v := values[name]; v > 0 && len(texts) < n {
			texts = append(texts, shown(name)+" "+amount(v)+unit)
		}
	}
	return strings.Join(texts, ", ")
}

// amount writes a number as people read it: 1,204,331 or 0.4.
func amount(v float64) string {
	if v != math.Trunc(v) && math.Abs(v) < 100 {
		return fmt.Sprintf("%.1f", v)
	}
	digits := fmt.Sprintf("%.0f", math.Abs(v))
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if v < 0 {
		return "-" + digits
	}
	return digits
}

// count writes how many of a thing there are.
func count(n float64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return amount(n) + " " + thing
}

// percent never writes 100 where one is missing.
func percent(share float64) string {
	if share > 0.9999 && share < 1 {
		return "99.99 %"
	}
	return strings.TrimSuffix(strings.TrimSuffix(fmt.Sprintf("%.2f", 100*share), "0"), ".0") + " %"
}

func megabytes(n float64) string { return fmt.Sprintf("%.0f MB", math.Ceil(n/(1<<20))) }

func seconds(s float64) string {
	if math.IsInf(s, 1) {
		return "more than 5 s"
	}
	if s < 1 {
		return fmt.Sprintf("%g ms", math.Round(s*1e5)/100)
	}
	return fmt.Sprintf("%g s", math.Round(s*100)/100)
}

// short is the beginning of a hash, enough to tell it from others.
func short(hash string) string { return hash[:min(len(hash), len("sha256:")+12)] }
