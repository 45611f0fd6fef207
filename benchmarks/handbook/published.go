package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// column is one published feature and what we call it.
type column struct {
	name    string  // in the published files
	feature string  // in the evidence of a decision; or
	reason  string  // among its reasons: the value is 1 or 0
	unit    float64 // what one published unit is in ours: 100 cents
	exact   bool    // a count or a flag; else a mean or a share, which is published rounded
}

var columns = []column{
	{name: "TX_DURING_WEEKEND", reason: "WEEKEND", unit: 1, exact: true},
	{name: "TX_DURING_NIGHT", reason: "NIGHT", unit: 1, exact: true},
	{name: "CUSTOMER_ID_NB_TX_1DAY_WINDOW", feature: "payer.transactions_1d", unit: 1, exact: true},
	{name: "CUSTOMER_ID_AVG_AMOUNT_1DAY_WINDOW", feature: "payer.average_1d", unit: 100},
	{name: "CUSTOMER_ID_NB_TX_7DAY_WINDOW", feature: "payer.transactions_7d", unit: 1, exact: true},
	{name: "CUSTOMER_ID_AVG_AMOUNT_7DAY_WINDOW", feature: "payer.average_7d", unit: 100},
	{name: "CUSTOMER_ID_NB_TX_30DAY_WINDOW", feature: "payer.transactions_30d", unit: 1, exact: true},
	{name: "CUSTOMER_ID_AVG_AMOUNT_30DAY_WINDOW", feature: "payer.average_30d", unit: 100},
	{name: "TERMINAL_ID_NB_TX_1DAY_WINDOW", feature: "terminal.transactions_1d", unit: 1, exact: true},
	{name: "TERMINAL_ID_RISK_1DAY_WINDOW", feature: "terminal.fraud_share_1d", unit: 1},
	{name: "TERMINAL_ID_NB_TX_7DAY_WINDOW", feature: "terminal.transactions_7d", unit: 1, exact: true},
	{name: "TERMINAL_ID_RISK_7DAY_WINDOW", feature: "terminal.fraud_share_7d", unit: 1},
	{name: "TERMINAL_ID_NB_TX_30DAY_WINDOW", feature: "terminal.transactions_30d", unit: 1, exact: true},
	{name: "TERMINAL_ID_RISK_30DAY_WINDOW", feature: "terminal.fraud_share_30d", unit: 1},
}

// published is one file of published features.
type published struct {
	name string
	rows map[string][]float64 // by TRANSACTION_ID, in the order of columns
}

// readPublished reads the rows of a file for which keep is true.
func readPublished(folder, name string, keep func(at payment.Time) bool) (p *published, err error) {
	names := []string{"TRANSACTION_ID", "TX_DATETIME"}
	for _, c := range columns {
		names = append(names, c.name)
	}
	t, err := openTable(folder, name, names)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	p = &published{name: name, rows: map[string][]float64{}}
	for fields := make([]string, len(names)); ; {
		if err := t.next(fields); errors.Is(err, io.EOF) {
			return p, nil
		} else if err != nil {
			return nil, err
		}
		at, err := parseTime(fields[1])
		if err != nil {
			return nil, t.fault(err)
		}
		if !keep(at) {
			continue
		}
		values := make([]float64, len(columns))
		for i, text := range fields[2:] {
			if values[i], err = parsePublished(text); err != nil {
				return nil, t.fault(fmt.Errorf("%s: %w", columns[i].name, err))
			}
		}
		p.rows[strings.Clone(fields[0])] = values
	}
}

// digits is how many significant digits means and shares are published with;
// zeros at the end are left out.
const digits = 9

func parsePublished(s string) (float64, error) {
	mantissa, _, _ := strings.Cut(s, "e")
	if n := len(strings.TrimLeft(strings.ReplaceAll(mantissa, ".", ""), "0")); n > digits {
		return 0, fmt.Errorf("%s has more than %d significant digits", s, digits)
	}
	return strconv.ParseFloat(s, 64)
}

// drift is what the published means are off by because they were made by adding
// to and subtracting from a running floating-point sum: the two means of a
// single amount of 0.00 are published as 8.9e-15 and 1.7e-13.
const drift = 1e-12

// equals compares a published value to ours, in published units: counts and flags
// exactly, means and shares to within half a unit of the last published digit.
func (c *column) equals(published, ours float64) bool {
	if c.exact {
		return published == ours
	}
	half := 0.0
	if published != 0 {
		half = 0.5 * math.Pow(10, math.Floor(math.Log10(math.Abs(published)))-(digits-1))
	}
	return math.Abs(published-ours) <= half+drift
}
