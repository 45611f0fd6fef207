package rules

import "github.com/sluice-risk/sluice/pipeline/payment"

// ruleFileShape is a file of rules/.
func ruleFileShape() shape {
	return mappingShape("a file of rules", "Rules, and exempts that switch rules off.",
		can("rules", listShape("Rules that say which payments to hold or to block.", ruleShape(), 0)),
		can("exempt", listShape("Exempts: for some payments, they switch rules off. They lift no list that blocks.", exemptShape(), 0)),
		can("retired", oneOrMoreShape("Ids of rules and exempts that are gone: none is ever used again.", patternShape("", rulePattern).such("an-old-rule"), 0))).
		with("minProperties", 1)
}

func ruleShape() shape {
	return mappingShape("a rule", "One rule.",
		needs("id", patternShape("Names the rule for ever: it is the key of its statistics, and is never used again.", rulePattern).such("card-testing")),
		can("description", shapeOf("What the rule is about: what fraud looks like, and why the condition shows it.", schemaMember{"type", "string"})),
		can("owner", shapeOf("Who answers for the rule.", schemaMember{"type", "string"})),
		can("tags", wordsShape("Names by which exempts reach several rules at once.")),
		can("applies_to", appliesToShape()),
		needs("when", expressionShape("The condition.").such("card.attempts_10m >= 5 and amount < CNY(10)")),
		can("verdict", wordShape("What a hit does; without it, it only counts points. There is no approve: see exempt.", payment.Hold.String(), payment.Block.String())),
		can("hold", holdShape()),
		can("points", wholeShape("What a hit adds to the sum that meets the thresholds of the policy.", 0, maxPoints).or(0)),
		can("reason", patternShape("The code in the decision; by default the id in capitals.", codePattern).such("CARD_TESTING")),
		can("detail", shapeOf("What people at work read beside the reason, with values in braces.", schemaMember{"type", "string"}).such("{card.attempts_10m} attempts in 10 minutes")),
		can("payer_code", patternShape("Which notice the payer gets.", codePattern).such("TRY_ANOTHER_WAY")),
		can("payer_message", messagesShape()),
		can("mode", wordShape("live acts; shadow is evaluated after the verdict and only recorded; disabled is not evaluated.", "live", "shadow", "disabled").or("live")),
		can("recheck_by", patternShape("The day by which somebody looks whether the rule is still good.", dayPattern).such("2027-03-31")),
		can("without_features", wordShape("What the rule does when its features cannot be had at all.", "skip", "hit").or("skip")),
		can("actions", wordsShape("Without effect in this version."))).
		with("anyOf", []schemaObject{{{"required", []string{"verdict"}}}, {{"required", []string{"points"}}}}).
		with("dependentRequired", schemaObject{{"hold", []string{"verdict"}}})
}

// wordsShape is one or more short words.
func wordsShape(about string) shape {
	return oneOrMoreShape(about, patternShape("", wordPattern), 0)
}

func appliesToShape() shape {
	return mappingShape("applies_to", "The transactions that are meant; without it, all. Others never evaluate the rule.",
		can("type", oneOrMoreShape("Types of transactions.", wordShape("", payment.TypeNames()...), 1)),
		can("channel", oneOrMoreShape("Channels, such as qr, web or pos.", patternShape("", channelPattern), 1)))
}

func holdShape() shape {
	return mappingShape("hold", "What a hold waits for; of verdict hold.",
		can("needs", oneOrMoreShape("step_up: another proof by the payer. review: a person. Both, in a list.", wordShape("", needStepUp, needReview), 1).or(needReview)),
		can("methods", wordsShape("Ways to prove it, of step_up.").such([]string{"otp", "face"})),
		can("for", durationShape("How long; by default what the policy says.", minHold, maxHold)),
		can("on_expiry", wordShape("What becomes of it when nobody cleared it in time; by default what the policy says.", payment.Approve.String(), payment.Block.String())))
}

func messagesShape() shape {
	return mapShape("What the payer reads, by language. It must not tell how the rule works.", languagePattern.String(),
		textShape("The message in this language.").with("pattern", `^[^{}]*$`)).
		such(map[string]string{"en": "Please try another way to pay."})
}

func exemptShape() shape {
	return mappingShape("an exempt", "One exempt.",
		needs("id", patternShape("Names the exempt for ever; no rule has it.", rulePattern).such("vip-travel")),
		can("description", shapeOf("What it is for.", schemaMember{"type", "string"})),
		can("owner", shapeOf("Who answers for it.", schemaMember{"type", "string"})),
		needs("when", expressionShape("For which payments.").such(`in_list(payer, "vip")`)),
		needs("from", mappingShape("from", "What is switched off.",
			can("rules", oneOrMoreShape("Rules by their ids.", patternShape("", rulePattern), 0)),
			can("tags", wordsShape("Rules by their tags.")),
			can("score", truthShape("The thresholds on the score.").or(false))).with("minProperties", 1)),
		can("until", untilShape("When it ends, by the payment's event time.")),
		can("why", shapeOf("Why it is there.", schemaMember{"type", "string"}).such("CASE-88")))
}
