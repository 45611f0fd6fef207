package rules

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// testFileShape is a file of tests, *_test.yaml.
func testFileShape() shape {
	now := patternShape("What times are relative to; by default noon of Monday, 2026-11-23, in the policy's time zone.", momentPattern).such("2026-11-23T12:00:00+08:00")
	offset := func(about string) shape { return patternShape(about, offsetPattern) }
	given := changesShape("A payment: base with these changes.",
		needs("at", offset("When, relative to now.").such("-9m", "-1h")),
		can("every", durationShape("How far apart, of several.", time.Millisecond, maxTestAway)),
		can("times", wholeShape("How many. {n} in a text is the number of each.", 1, maxTestTimes).or(1)),
		can("id", patternShape("By which outcomes name it.", wordPattern)))
	outcome := mappingShape("an outcome", "What became of payments above.",
		needs("outcome", wordShape("What became of them.", payment.OutcomeNames()...)),
		needs("of", textShape("The id of the payments.")),
		can("at", offset("When, relative to now; by default with the payment.")))
	record := shapeOf("", schemaMember{"if", schemaObject{{"anyOf", []schemaObject{{{"required", []string{"outcome"}}}, {{"required", []string{"of"}}}}}}},
		schemaMember{"then", outcome}, schemaMember{"else", given})
	record.parts = func() []shape { return []shape{outcome, given} }
	return mappingShape("a file of tests", "Tests of the ruleset, which sluice rules test plays through the gate.",
		can("now", now),
		can("base", changesShape("The payment that all tests of the file begin with.")),
		needs("tests", listShape("", mappingShape("a test", "One test.",
			needs("name", patternShape("What must be so, on one line; unique in the file.", testNamePattern)),
			can("description", shapeOf("", schemaMember{"type", "string"})),
			can("now", now),
			can("base", changesShape("Changes of the file's base.")),
			can("given", listShape("What came before.", record, 0)),
			needs("send", changesShape("The payment that is judged: base with these changes.",
				can("at", offset("When, relative to now.").or("0s")))),
			needs("expect", expectShape())), 0))).
		with("$defs", testDefinitions())
}

// changesShape is a payment of a test, or changes of one, with other keys beside
// its fields. A field that is null is absent.
func changesShape(about string, others ...shapeKey) shape {
	s := mapShape(about, `^attributes\.[A-Za-z0-9_]{1,64}$`, refShape("text"), others...)
	for _, name := range slices.Sorted(maps.Keys(testFields)) {
		if !slices.Contains(testGroups, name) {
			s.keys = append(s.keys, can(name, refShape(fieldDefinition(name))))
		}
	}
	for _, group := range testGroups {
		s.keys = append(s.keys, can(group, refShape(group)))
	}
	return s
}

// refShape stands for a definition of testDefinitions.
func refShape(name string) shape { return shapeOf("", schemaMember{"$ref", "#/$defs/" + name}) }

// fieldDefinition names what the value of a field of a payment is.
func fieldDefinition(name string) string {
	switch path := testFields[name]; path {
	case "type", "amount", "accepts":
		return path
	case "device.lat", "device.lon":
		return "degrees"
	case "auth.methods":
		return "methods"
	}
	return "text"
}

// testDefinitions are the values that fields of a payment have, and the groups of
// fields. A value may be null, and a group that has a short form.
func testDefinitions() schemaObject {
	var o schemaObject
	define := func(name, about string, s shape) {
		o = append(o, schemaMember{name, anyShape(about, s, shapeOf("Absent.", schemaMember{"type", "null"}))})
	}
	define("text", "", textShape(""))
	define("type", "", wordShape("", payment.TypeNames()...))
	define("amount", "", moneyShape(""))
	define("degrees", "In degrees.", shapeOf("", schemaMember{"type", "number"}, schemaMember{"minimum", -180}, schemaMember{"maximum", 180}))
	define("methods", "", wordsShape(""))
	define("accepts", "", oneOrMoreShape("", wordShape("", "hold", "step_up"), 0))
	for _, group := range testGroups {
		inner := shape{closed: true}
		if group == "attributes" {
			inner = mapShape("", attributePattern.String(), refShape("text"))
		}
		for _, name := range slices.Sorted(maps.Keys(testFields)) {
			if field, ok := strings.CutPrefix(name, group+"."); ok {
				inner.keys = append(inner.keys, can(field, refShape(fieldDefinition(name))))
			}
		}
		if _, short := testFields[group]; !short {
			o = append(o, schemaMember{group, inner})
			continue
		}
		define(group, "Its id alone, or its fields.", anyShape("", refShape(fieldDefinition(group)), inner))
	}
	return o
}

func expectShape() shape {
	ids := func(about string) shape { return setShape(about, textShape(""), 0) }
	var sources []string
	for _, s := range payment.Sources() {
		sources = append(sources, string(s))
	}
	return mappingShape("expect", "What must come out; what is not named is not looked at.",
		can("verdict", wordShape("", payment.Approve.String(), payment.Hold.String(), payment.Block.String())),
		can("rules", ids("The live rules that are true: all of them.")),
		can("shadow", ids("The rules in shadow that are true.")),
		can("unknown", ids("The live rules that came out unknown.")),
		can("exempt", ids("The exempts that switched a rule off.")),
		can("reasons", ids("The codes of the reasons.")),
		can("points", wholeShape("The sum of points.", 0, math.MaxInt32)),
		can("source", wordShape("", sources...)),
		can("payer_code", patternShape("", codePattern)),
		can("payer_message", anyShape("What the payer is told, in the payment's language or by language.", textShape(""),
			mapShape("", languagePattern.String(), textShape("")))),
		can("features", shapeOf("Features and their values; null is absent, money is written CNY(10).", schemaMember{"type", "object"},
			schemaMember{"additionalProperties", schemaObject{{"type", []string{"string", "number", "boolean", "null"}}}}))).
		with("minProperties", 1)
}
