package rules

// listFileShape is a file of lists/.
func listFileShape() shape {
	entry := mappingShape("an entry", "One entry.",
		needs("value", textShape("The value, as the type of the list has it; in quotes where it is a number.")),
		can("until", untilShape("When it ends, by the payment's event time.")),
		can("by", shapeOf("Who made it.", schemaMember{"type", "string"}).such("analyst-3")),
		can("why", shapeOf("Why it is there; reviewers read it.", schemaMember{"type", "string"}).such("CASE-88")))
	return mappingShape("a list", "One list, which rules ask by in_list, or which blocks by itself.",
		needs("list", patternShape("Its name.", listPattern).such("stolen-cards")),
		needs("type", wordShape("What its values are: which field of a payment is looked up.", listTypeNames[:]...)),
		can("effect", wordShape("none: rules ask it. block: a hit blocks by itself, before all rules, and nothing lifts it.", "none", "block").or("none")),
		can("payer_code", patternShape("Which notice the payer of a hit gets; of effect block.", codePattern).or(listPayerCode)),
		can("description", shapeOf("What it is for.", schemaMember{"type", "string"})),
		can("owner", shapeOf("Who answers for it.", schemaMember{"type", "string"})),
		needs("entries", listShape("Values, each once.", entry, 0)))
}
