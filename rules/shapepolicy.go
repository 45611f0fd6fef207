package rules

import (
	"time"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// policyFileShape is policy.yaml. Its defaults are those of a ruleset without one.
func policyFileShape() shape {
	approve, hold, block := payment.Approve.String(), payment.Hold.String(), payment.Block.String()
	perType := func(what, about string, of func(name string) shape) shape {
		var keys []shapeKey
		for _, name := range payment.TypeNames() {
			keys = append(keys, can(name, of(name)))
		}
		return mappingShape(what, about, keys...)
	}
	within := map[string]string{"payment": "300ms", "transfer": "1s", "withdrawal": "1s", "top_up": "1s", "refund": "2s"}
	late := map[string]any{"payment": map[string]string{"approve_up_to": "CNY(500)", "else": hold}, "transfer": hold, "withdrawal": hold, "top_up": approve, "refund": hold}
	holdDefault := func(what, about, lasts string) shape {
		return mappingShape(what, about,
			can("for", durationShape("How long.", minHold, maxHold).or(lasts)),
			can("on_expiry", wordShape("What becomes of it when nobody cleared it in time.", approve, block).or(block)))
	}
	return mappingShape("policy.yaml", "How hits of rules become a verdict, and what happens where there is none.",
		can("base_currency", currencyShape("Amounts are converted to it once, and rules compare them in it.").or("CNY")),
		can("time_zone", textShape("Of local time, calendar windows and the ends of days: a name of the IANA database.").such("Asia/Shanghai", "Europe/Berlin")),
		can("decide_within", perType("decide_within", "How long a decision may take where the payment does not say by when.", func(name string) shape {
			return durationShape("", minDecideWithin, maxDecideWithin).or(within[name])
		})),
		can("when_late", perType("when_late", "What becomes of a payment whose time is up.", func(name string) shape {
			return anyShape("", wordShape("A verdict.", approve, hold, block),
				mappingShape("when_late", "By the amount.",
					needs("approve_up_to", moneyShape("Up to here it is approved.")),
					needs("else", wordShape("Above it.", hold, block)))).or(late[name])
		})),
		can("if_cannot_hold", mapShape("What a hold becomes for a caller who cannot hold, by channel.", channelPattern.String(),
			wordShape("On this channel.", approve, block),
			can("default", wordShape("On all other channels.", approve, block).or(block))).or(map[string]string{"transit": approve, "default": block})),
		can("hold", mappingShape("hold", "What rules have that do not say it themselves.",
			can("review", holdDefault("hold.review", "Of a hold that needs a person.", "24h")),
			can("step_up", holdDefault("hold.step_up", "Of a hold that needs another proof by the payer.", "3m")))),
		can("thresholds", listShape("Verdicts by the sum of points of all hits, or by the score.",
			mappingShape("a threshold", "Either points or score.",
				can("points", wholeShape("From this sum of points on.", 1, 1_000_000)),
				can("score", wholeShape("From this score on.", 1, 100)),
				needs("verdict", wordShape("What comes out.", hold, block)),
				can("applies_to", appliesToShape())).
				with("oneOf", []schemaObject{{{"required", []string{"points"}}}, {{"required", []string{"score"}}}}), 0).
			or([]map[string]any{{"points": 80, "verdict": hold}, {"score": 85, "verdict": block}, {"score": 60, "verdict": hold}})),
		can("duplicates", mappingShape("duplicates", "Payments that are made twice.",
			can("within", durationShape("How near two are, where one of them names no order.", time.Second, 7*24*time.Hour).or("60s")),
			can("verdict", wordShape("What the second one gets; approve looks for none.", approve, hold, block).or(hold)),
			can("payer_message", messagesShape()))),
		can("caps", mappingShape("caps", "How large the share of blocks may become. Without effect in this version.",
			can("block_share", anyShape("Of all decisions.", patternShape("", sharePattern).such("5%"),
				shapeOf("", schemaMember{"type", "number"}, schemaMember{"minimum", 0}, schemaMember{"maximum", 1})).or("5%")),
			can("per", durationShape("In this time.", time.Second, 24*time.Hour).or("5m")),
			can("min_count", wholeShape("So many decisions are needed before the cap can bite.", 1, 1_000_000_000).or(100)),
			can("then", wordShape("What a block becomes beyond it.", hold, approve).or(hold)))),
		can("channels", setShape("The channels that are expected. Others are decided like the rest, counted and alerted.", patternShape("", channelPattern), 0).
			or([]string{"qr", "in_app", "mini_program", "web", "pos", "transit", "bill", "face"})),
		can("reasons", setShape("The reasons that rules may give, where there is a closed set of them: another one is a mistake.", patternShape("", codePattern), 0)),
		can("no_rate", wordShape("What a payment gets whose currency has no rate.", approve, hold, block).or(hold)))
}

func currencyShape(about string) shape { return wordShape(about, payment.CurrencyCodes()...) }

// ratesFileShape is rates.yaml.
func ratesFileShape() shape {
	rates := shapeOf("One unit of each currency in units of the base.", schemaMember{"type", "object"},
		schemaMember{"propertyNames", schemaObject{{"enum", payment.CurrencyCodes()}}},
		schemaMember{"additionalProperties", schemaObject{{"type", "number"}, {"exclusiveMinimum", 0}}})
	return mappingShape("rates.yaml", "What other currencies are worth. Without a rate, a payment gets the policy's no_rate.",
		needs("base", currencyShape("The policy's base_currency.")),
		needs("rates", rates.such(map[string]float64{"USD": 7.10})))
}

// noticesFileShape is notices.yaml.
func noticesFileShape() shape {
	told := func(about string) shape {
		return textShape(about).with("pattern", `^[^{}]*$`)
	}
	notice := mappingShape("a notice", "In this language.",
		needs("message", told("What has happened.").with("maxLength", maxPayerText)),
		can("next", told("What the payer can do now.").with("maxLength", maxPayerText)))
	return mappingShape(noticesFile, "What payers are told, by payer_code. What is not here is told in built-in words.",
		can("language", patternShape("Of payers whose language is not known, or has no texts.", languagePattern).or("en")),
		needs("notices", mapShape("By payer_code.", codePattern.String(), mapShape("By language.", languagePattern.String(), notice))))
}
