package rules

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"
	"github.com/sluice-risk/sluice/pipeline/payment"
	"github.com/sluice-risk/sluice/pipeline/window"
)

// TestClosuresAgreeWithTheirOracles evaluates random conditions on random
// inputs in three ways: by the closures; by a plain walk over the tree with nil
// for what is absent; and, where nothing is absent, by expr's virtual machine.
func TestClosuresAgreeWithTheirOracles(t *testing.T) {
	const conditions, inputs = 2500, 60
	random := rand.New(rand.NewPCG(1, 2))
	var rejected, byMachine, evaluations int
	var found [3]int
	for n := 0; n < conditions; n++ {
		g := generator{random}
		condition := g.truth(4)
		set, err := ruleFor(condition)
		if err != nil {
			if !strings.Contains(err.Error(), "this is always") && !strings.Contains(err.Error(), " is never ") && !strings.Contains(err.Error(), "this never holds together") && !strings.Contains(err.Error(), "the condition is always") && !strings.Contains(err.Error(), "does not look at") {
				t.Fatalf("%s: %v", condition, err)
			}
			rejected++
			continue
		}
		tree, err := parser.Parse(condition)
		if err != nil {
			t.Fatal(err)
		}
		program, err := expr.Compile(condition, machineOptions()...)
		if err != nil {
			t.Fatalf("expr does not accept what we do: %s: %v", condition, err)
		}
		e := set.NewEvaluator()
		var d payment.Decision
		for i := 0; i < inputs; i++ {
			in, env := randomInput(random, i%2 == 0)
			d.Reset()
			e.Decide(in, &d)
			got := window.False
			switch {
			case len(e.Failed()) > 0:
				t.Fatalf("%s failed on %v", condition, env)
			case len(e.Hits()) > 0:
				got = window.True
			case len(e.Unknown()) > 0:
				got = window.Unknown
			}
			found[got]++
			evaluations++
			want := window.Unknown
			if v, ok := walk(tree.Node, env).(bool); ok {
				want = window.TruthOf(v)
			}
			if got != want {
				t.Fatalf("%s: closures say %s, the walk %s, on %v", condition, truthWord(got), truthWord(want), env)
			}
			if i%2 == 0 {
				v, err := vm.Run(program, env)
				if errors.Is(err, errAbsent) {
					continue
				}
				if err != nil || window.TruthOf(v.(bool)) != got {
					t.Fatalf("%s: closures say %s, expr %v (%v), on %v", condition, truthWord(got), v, err, env)
				}
				byMachine++
			}
		}
	}
	t.Logf("%d evaluations, %d of them by expr's machine, %d conditions rejected as constant: %d false, %d true, %d unknown",
		evaluations, byMachine, rejected, found[0], found[1], found[2])
	if evaluations < 100_000 || byMachine < 50_000 || found[0] < 5_000 || found[1] < 5_000 || found[2] < 5_000 {
		t.Error("too few of some kind")
	}
}

// generator writes random expressions that are correct, with no division by
// zero and no overflow.
type generator struct{ *rand.Rand }

func (g generator) of(choices ...string) string { return choices[g.IntN(len(choices))] }

func (g generator) truth(depth int) string {
	if depth == 0 {
		return g.of("card.f", "true", "false", "has(card.a_1h)", "has(payer.country)", "has(amount)")
	}
	d := depth - 1
	compare := g.of("==", "!=", "<", "<=", ">", ">=")
	switch g.IntN(18) {
	case 0, 1:
		return fmt.Sprintf("(%s %s %s)", g.truth(d), g.of("and", "&&"), g.truth(d))
	case 2, 3:
		return fmt.Sprintf("(%s %s %s)", g.truth(d), g.of("or", "||"), g.truth(d))
	case 4:
		return fmt.Sprintf("%s(%s)", g.of("not ", "!"), g.truth(d))
	case 5, 6, 7:
		return fmt.Sprintf("%s %s %s", g.number(d), compare, g.number(d))
	case 8, 9:
		return fmt.Sprintf("%s %s %s", g.money(d), compare, g.money(d))
	case 10:
		return fmt.Sprintf("%s %s %s", g.text(d), compare, g.text(d))
	case 11:
		return fmt.Sprintf("%s %s %s", g.text(d), g.of("contains", "startsWith", "endsWith", "not contains"), g.text(0))
	case 12:
		return fmt.Sprintf("%s %s", g.text(d), g.of(`in ["CN", "JP"]`, `not in ["CN"]`, `in ["AE", "BR", "CA", "DE", "ES", "FR", "GB", "HK", "JP"]`, `matches "^C"`, `in auth.methods`))
	case 13:
		return fmt.Sprintf("%s %s", g.whole(d), g.of("in [1, 2, 3]", "in 0..4", "not in -2..2", "in [1, 2, 3, 4, 5, 6, 7, 8, 9]"))
	case 14:
		return fmt.Sprintf("((%s) ?? %s)", g.truth(d), g.of("true", "false"))
	case 15:
		return fmt.Sprintf("time_between(%s, %s%s)", g.of(`"22:00"`, `"09:30"`), g.of(`"06:00"`, `"21:15"`), g.of("", `, "Europe/Berlin"`, `, "America/St_Johns"`))
	case 16: // Not compared with another one: two formulas round in different ways.
		return fmt.Sprintf("km_between(device.lat, device.lon, %s, -0.25) %s %s", g.of("1", "-1.5", "card.b_1h"), compare, g.of("100.5", "300.5", "450.5"))
	}
	return fmt.Sprintf("(%s ? %s : %s)", g.truth(d), g.truth(d), g.truth(d))
}

func (g generator) whole(depth int) string {
	if depth == 0 {
		return g.of("card.a_1h", "card.b_1h", "1", "2", "-3", "5", "len(payer.country)", "len(auth.methods)", `hour("Europe/Berlin")`, `weekday("Asia/Tokyo")`)
	}
	d := depth - 1
	switch g.IntN(6) {
	case 0:
		return fmt.Sprintf("(%s %s %s)", g.whole(d), g.of("+", "-", "*"), g.whole(d))
	case 1:
		return fmt.Sprintf("(%s %% %s)", g.whole(d), g.of("2", "3", "-5"))
	case 2:
		return fmt.Sprintf("%s(%s, %s)", g.of("min", "max"), g.whole(d), g.whole(d))
	case 3:
		return fmt.Sprintf("abs(%s)", g.whole(d))
	case 4:
		return fmt.Sprintf("((%s) ?? %s)", g.whole(0), g.whole(0))
	}
	return fmt.Sprintf("-(%s)", g.whole(d))
}

func (g generator) number(depth int) string {
	if depth == 0 || g.IntN(2) == 0 {
		return g.of("card.share_1h", "0.5", "1.25", "device.lat", "device.lon", g.whole(depth))
	}
	d := depth - 1
	switch g.IntN(8) {
	case 0:
		return fmt.Sprintf("(%s %s %s)", g.number(d), g.of("+", "-", "*"), g.number(d))
	case 4:
		return fmt.Sprintf("ratio(%s, %s)", g.number(d), g.of("card.a_1h", "card.share_1h", "2", "-0.5"))
	case 5:
		return fmt.Sprintf("ratio(%s, %s)", g.money(d), g.of("amount", "card.s_1h", "card.m_1h", "CNY(2)"))
	case 6:
		return fmt.Sprintf("z_score(%s, %s, %s)", g.number(d), g.number(0), g.of("card.share_1h", "card.b_1h", "2", "0.5"))
	case 7:
		return fmt.Sprintf("z_score(%s, %s, %s)", g.money(d), g.of("card.m_1h", "CNY(3)"), g.of("card.m_1h", "card.s_1h", "CNY(2)"))
	case 1:
		return fmt.Sprintf("(%s / %s)", g.number(d), g.of("2", "0.5", "-3"))
	case 2:
		// Not of an integer and a float: expr takes the result for an integer, and panics.
		return fmt.Sprintf("%s(%s * 1.0, %s * 1.0)", g.of("min", "max"), g.number(d), g.number(d))
	case 3:
		return fmt.Sprintf("(%s / CNY(2))", g.money(d))
	}
	return fmt.Sprintf("(%s ? %s * 1.0 : %s * 1.0)", g.truth(d), g.number(d), g.number(d))
}

func (g generator) money(depth int) string {
	if depth == 0 {
		return g.of("amount", "card.s_1h", "card.m_1h", "CNY(10)", "CNY(0.5)", "CNY(12.50)")
	}
	d := depth - 1
	switch g.IntN(5) {
	case 0:
		return fmt.Sprintf("(%s %s %s)", g.money(d), g.of("+", "-"), g.money(d))
	case 1:
		return fmt.Sprintf("(%s * %s)", g.money(d), g.number(0))
	case 2:
		return fmt.Sprintf("(%s / %s)", g.money(d), g.of("2", "0.5"))
	case 3:
		return fmt.Sprintf("%s(%s * 1.0, %s * 1.0)", g.of("min", "max"), g.money(d), g.money(d))
	}
	return fmt.Sprintf("((%s) ?? %s)", g.of("amount", "card.s_1h"), g.of("amount", "card.s_1h", "CNY(10)"))
}

func (g generator) text(depth int) string {
	if depth > 0 && g.IntN(3) == 0 {
		return fmt.Sprintf("(%s ? %s : %s)", g.truth(depth-1), g.text(0), g.text(0))
	}
	return g.of("payer.country", "payee.country", `"CN"`, `"CA"`, "(payer.country ?? payee.country)", "attributes.x")
}

// randomInput returns an input, and the same as nested maps. With everything,
// nothing is absent.
func randomInput(r *rand.Rand, everything bool) (*Input, map[string]any) {
	there := func() bool { return everything || r.IntN(3) > 0 }
	in := bare()
	card, payer, payee, device, auth, attributes := map[string]any{}, map[string]any{}, map[string]any{}, map[string]any{}, map[string]any{}, map[string]any{}
	env := map[string]any{"card": card, "payer": payer, "payee": payee, "device": device, "auth": auth, "attributes": attributes}
	whole := func(slot int, name string, of int) {
		if there() {
			v := r.IntN(of) - 2
			in.Features[slot], card[name] = payment.IntValue(int64(v)), v
		}
	}
	whole(0, "a_1h", 8)
	whole(1, "b_1h", 8)
	whole(3, "s_1h", 4000)
	if there() {
		v := float64(r.IntN(9)) / 8
		in.Features[2], card["share_1h"] = payment.FloatValue(v), v
	}
	if there() {
		v := float64(r.IntN(4000)) / 2
		in.Features[4], card["m_1h"] = payment.FloatValue(v), v
	}
	if there() {
		v := r.IntN(2) == 0
		in.Features[6], card["f"] = payment.BoolValue(v), v
	}
	in.Tx.EventTime += payment.Time(r.Int64N(int64(400 * day)))
	env[eventTime] = in.Tx.EventTime.Std()
	if in.HasAmount = there(); in.HasAmount {
		v := r.IntN(3) * 1250 / 2
		in.Amount, env["amount"] = int64(v), v
	}
	countries := []string{"CN", "JP", "CA", "HK"}
	if there() {
		in.Tx.Payer.Country = countries[r.IntN(4)]
		payer["country"] = in.Tx.Payer.Country
	}
	if there() {
		in.Tx.Payee.Country = countries[r.IntN(4)]
		payee["country"] = in.Tx.Payee.Country
	}
	if there() {
		v := countries[r.IntN(4)]
		in.Tx.Attributes = []payment.Attribute{{Name: "x", Value: v}}
		attributes["x"] = v
	}
	if there() {
		in.Tx.AuthMethods = []string{"CN", "otp"}[:1+r.IntN(2)]
		auth["methods"] = in.Tx.AuthMethods
	}
	if there() {
		in.Tx.Device.Lat, in.Tx.Device.Lon, in.Tx.Device.Located = float64(r.IntN(5)), -0.5, true
		device["lat"], device["lon"] = in.Tx.Device.Lat, in.Tx.Device.Lon
	}
	return in, env
}

// eventTime is the name of the payment's time among the values.
const eventTime = "at"

// errAbsent ends a run of the machine in a function whose value is absent: to the
// machine nil is a value like others.
var errAbsent = errors.New("absent")

// machineOptions give expr's machine the functions that it lacks, by those of the
// walk; the environment stands before the arguments of those that read the time.
func machineOptions() []expr.Option {
	given := func(name string, types ...any) expr.Option {
		return expr.Function(name, func(p ...any) (any, error) {
			if v := plain(name, p); v != nil {
				return v, nil
			}
			return nil, errAbsent
		}, types...)
	}
	var timed []expr.Option
	for name, signature := range map[string][]any{
		"time_between": {new(func(time.Time, string, string) bool), new(func(time.Time, string, string, string) bool)},
		"hour":         {new(func(time.Time, string) int)},
		"weekday":      {new(func(time.Time, string) int)},
	} {
		timed = append(timed, given(name, signature...))
	}
	return append(timed, []expr.Option{
		expr.Patch(timeFirst{}),
		given("km_between", new(func(a, b, c, d any) float64)),
		given("ratio", new(func(a, b any) float64)),
		given("z_score", new(func(a, b, c any) float64)),
		expr.Env(types.Map{
			eventTime: types.TypeOf(time.Time{}),
			"amount":  types.Int, "attributes": types.Map{"x": types.String},
			"card":  types.Map{"a_1h": types.Int, "b_1h": types.Int, "s_1h": types.Int, "share_1h": types.Float64, "m_1h": types.Float64, "f": types.Bool},
			"payer": types.Map{"country": types.String}, "payee": types.Map{"country": types.String},
			"device": types.Map{"lat": types.Float64, "lon": types.Float64}, "auth": types.Map{"methods": types.Array(types.String)},
		}),
		expr.AsBool(),
		expr.Function("CNY", func(p ...any) (any, error) { return minor(p[0]), nil }, new(func(int) int), new(func(float64) int)),
		expr.Function("has", func(...any) (any, error) { return true, nil }, new(func(any) bool)),
	}...)
}

// timeFirst gives the payment's time to the functions that read it.
type timeFirst struct{}

// Visit rewrites a call.
func (timeFirst) Visit(n *ast.Node) {
	call, ok := (*n).(*ast.CallNode)
	if !ok || !timed(call.Callee.(*ast.IdentifierNode).Value) {
		return
	}
	if len(call.Arguments) > 0 {
		if _, done := call.Arguments[0].(*ast.IdentifierNode); done {
			return
		}
	}
	call.Arguments = append([]ast.Node{&ast.IdentifierNode{Value: eventTime}}, call.Arguments...)
}

func timed(name string) bool { return name == "time_between" || name == "hour" || name == "weekday" }

// plain computes a function of ours in the most obvious way; nil is absent.
func plain(name string, p []any) any {
	switch name {
	case "time_between":
		zone := "Asia/Shanghai"
		if len(p) > 3 {
			zone = p[3].(string)
		}
		from, to, now := p[1].(string), p[2].(string), wall(p[0], zone).Format("15:04")
		if from <= to {
			return from <= now && now < to
		}
		return !(to <= now && now < from)
	case "hour":
		return wall(p[0], p[1].(string)).Hour()
	case "weekday":
		return (int(wall(p[0], p[1].(string)).Weekday())+6)%7 + 1
	case "ratio":
		if number(p[1]) == 0 {
			return nil
		}
		return number(p[0]) / number(p[1])
	case "z_score":
		if number(p[2]) <= 0 {
			return nil
		}
		return (number(p[0]) - number(p[1])) / number(p[2])
	}
	return chord(number(p[0]), number(p[1]), number(p[2]), number(p[3]))
}

func wall(at any, zone string) time.Time {
	location, err := time.LoadLocation(zone)
	if err != nil {
		panic(err)
	}
	return at.(time.Time).In(location)
}

// chord is the way between two places by the straight line through the earth.
func chord(lat1, lon1, lat2, lon2 float64) float64 {
	at := func(lat, lon float64) [3]float64 {
		lat, lon = lat*math.Pi/180, lon*math.Pi/180
		return [3]float64{math.Cos(lat) * math.Cos(lon), math.Cos(lat) * math.Sin(lon), math.Sin(lat)}
	}
	a, b := at(lat1, lon1), at(lat2, lon2)
	return 2 * 6371 * math.Asin(math.Hypot(math.Hypot(a[0]-b[0], a[1]-b[1]), a[2]-b[2])/2)
}

func minor(v any) int {
	if f, ok := v.(float64); ok {
		return int(math.Round(f * 100))
	}
	return v.(int) * 100
}

// walk evaluates a tree plainly; nil is absent, and unknown.
func walk(n ast.Node, env map[string]any) any {
	switch n := n.(type) {
	case *ast.IntegerNode:
		return n.Value
	case *ast.FloatNode:
		return n.Value
	case *ast.StringNode:
		return n.Value
	case *ast.BoolNode:
		return n.Value
	case *ast.IdentifierNode:
		return env[n.Value]
	case *ast.MemberNode:
		return walk(n.Node, env).(map[string]any)[n.Property.(*ast.StringNode).Value]
	case *ast.UnaryNode:
		switch v := walk(n.Node, env).(type) {
		case bool:
			return !v
		case int:
			return -v
		case float64:
			return -v
		}
		return nil
	case *ast.ConditionalNode:
		switch walk(n.Cond, env) {
		case true:
			return walk(n.Exp1, env)
		case false:
			return walk(n.Exp2, env)
		}
		return nil
	case *ast.CallNode:
		return walkCall(n.Callee.(*ast.IdentifierNode).Value, n.Arguments, env)
	case *ast.BuiltinNode:
		return walkBuiltin(n, env)
	}
	return walkBinary(n.(*ast.BinaryNode), env)
}

func walkCall(name string, arguments []ast.Node, env map[string]any) any {
	switch name {
	case "CNY":
		return minor(walk(arguments[0], env))
	case "has":
		return walk(arguments[0], env) != nil
	}
	var values []any
	if timed(name) {
		values = append(values, env[eventTime])
	}
	for _, a := range arguments {
		v := walk(a, env)
		if v == nil {
			return nil
		}
		values = append(values, v)
	}
	return plain(name, values)
}

func walkBuiltin(n *ast.BuiltinNode, env map[string]any) any {
	var values []any
	for _, a := range n.Arguments {
		v := walk(a, env)
		if v == nil {
			return nil
		}
		values = append(values, v)
	}
	switch v := values[0].(type) {
	case string:
		return utf8.RuneCountInString(v)
	case []string:
		return len(v)
	}
	switch n.Name {
	case "abs":
		if v, ok := values[0].(int); ok {
			return max(v, -v)
		}
		return math.Abs(values[0].(float64))
	case "min":
		if number(values[0]) <= number(values[1]) {
			return values[0]
		}
		return values[1]
	}
	if number(values[0]) >= number(values[1]) {
		return values[0]
	}
	return values[1]
}

func number(v any) float64 {
	if i, ok := v.(int); ok {
		return float64(i)
	}
	return v.(float64)
}

func walkBinary(n *ast.BinaryNode, env map[string]any) any {
	a := walk(n.Left, env)
	switch n.Operator {
	case "and", "&&":
		return both(a, walk(n.Right, env), false)
	case "or", "||":
		return both(a, walk(n.Right, env), true)
	case "??":
		if a != nil {
			return a
		}
		return walk(n.Right, env)
	case "in":
		return walkIn(a, n.Right, env)
	}
	b := walk(n.Right, env)
	if a == nil || b == nil {
		return nil
	}
	if x, ok := a.(string); ok {
		y := b.(string)
		switch n.Operator {
		case "contains":
			return strings.Contains(x, y)
		case "startsWith":
			return strings.HasPrefix(x, y)
		case "endsWith":
			return strings.HasSuffix(x, y)
		case "matches":
			return strings.HasPrefix(x, strings.TrimPrefix(y, "^"))
		}
		return ordered(n.Operator, strings.Compare(x, y))
	}
	x, xWhole := a.(int)
	y, yWhole := b.(int)
	switch n.Operator {
	case "+", "-", "*":
		if xWhole && yWhole {
			return map[string]int{"+": x + y, "-": x - y, "*": x * y}[n.Operator]
		}
		return map[string]float64{"+": number(a) + number(b), "-": number(a) - number(b), "*": number(a) * number(b)}[n.Operator]
	case "/":
		return number(a) / number(b)
	case "%":
		return x % y
	}
	switch {
	case number(a) < number(b):
		return ordered(n.Operator, -1)
	case number(a) > number(b):
		return ordered(n.Operator, 1)
	}
	return ordered(n.Operator, 0)
}

// both is the table of and (decisive false) and of or (decisive true).
func both(a, b any, decisive bool) any {
	switch {
	case a == decisive || b == decisive:
		return decisive
	case a == nil || b == nil:
		return nil
	}
	return !decisive
}

func ordered(op string, sign int) bool {
	switch op {
	case "==":
		return sign == 0
	case "!=":
		return sign != 0
	case "<":
		return sign < 0
	case "<=":
		return sign <= 0
	case ">":
		return sign > 0
	}
	return sign >= 0
}

func walkIn(a any, right ast.Node, env map[string]any) any {
	var among []any
	switch r := right.(type) {
	case *ast.ArrayNode:
		for _, m := range r.Nodes {
			among = append(among, walk(m, env))
		}
	case *ast.BinaryNode:
		for i := walk(r.Left, env).(int); i <= walk(r.Right, env).(int); i++ {
			among = append(among, i)
		}
	default:
		methods, ok := walk(right, env).([]string)
		if !ok {
			return nil
		}
		for _, m := range methods {
			among = append(among, m)
		}
	}
	if a == nil {
		return nil
	}
	return slices.Contains(among, a)
}
