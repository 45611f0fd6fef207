package rules

import (
	"regexp"
	"strings"
	"time"

	"github.com/sluice-risk/sluice/pipeline/window"
)

// featureFileShape is a file of features/.
func featureFileShape() shape {
	return mappingShape("a file of features", "Features: numbers about payers, cards and others, exact as of each payment.",
		needs("features", listShape("Each is as many features as it has windows.", featureShape(), 0)))
}

func featureShape() shape {
	kinds := window.EntityNames()
	pair := regexp.MustCompile(`^(` + strings.Join(kinds, "|") + `)_(` + strings.Join(kinds, "|") + `)$`)
	return mappingShape("a feature", "One feature; rules name it entity.name_window: card.attempts_10m.",
		needs("entity", anyShape("Whom it is about: one of these, or two joined by _, such as payer_payee; charge stands alone.",
			wordShape("", kinds...), patternShape("", pair))),
		needs("name", patternShape("Its name, without entity and window.", featureNamePattern).such("attempts")),
		can("windows", listShape("How far back it looks; last, since_last, since_first and speed_kmh can do without.",
			anyShape("", wordShape("Since local midnight, or since that of the first of the month.", "calendar_day", "calendar_month"),
				durationShape("The window ends with the payment itself.", minWindow, maxWindow)), 1).such([]string{"10m", "1h"})),
		needs("value", valueShape()),
		can("where", expressionShape("Which events count.").such(`status != "technical_failure"`)),
		can("delay", durationShape("How long before the payment the window ends; 1s leaves out the payment itself.", time.Second, maxWindow)),
		can("description", shapeOf("What it is for.", schemaMember{"type", "string"})))
}

// valueShape is an aggregate, with what it takes in parentheses.
func valueShape() shape {
	var plain []string
	for _, name := range window.AggregateNames() {
		switch a, _ := window.ParseAggregate(name); a {
		case window.Distinct, window.Last, window.Share:
		default:
			plain = append(plain, name)
		}
	}
	var fields []string
	for _, f := range window.Fields() {
		fields = append(fields, f.Name)
	}
	among := strings.Join(fields, "|")
	return anyShape("What of the events: their number, a sum of amounts, how many different ones, a share, a time in seconds.",
		wordShape("Of the amount, in the base currency; since_… in seconds.", plain...),
		patternShape("How many different values of a field.", regexp.MustCompile(`^distinct\((`+among+`)\)$`)).such("distinct(device)"),
		patternShape("The field of the event before.", regexp.MustCompile(`^last\((`+among+`)\)$`)).such("last(device)"),
		patternShape("The share of events that satisfy a condition.", regexp.MustCompile(`^share\((.|\n)+\)$`)).such("share(fraud)"))
}
