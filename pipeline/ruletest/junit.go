package ruletest

import (
	"encoding/xml"
	"io"
)

// The report as JUnit writes it: a suite for each file.
type (
	junitSuites struct {
		XMLName xml.Name     `xml:"testsuites"`
		Suites  []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name      string        `xml:"name,attr"`
		ClassName string        `xml:"classname,attr"`
		File      string        `xml:"file,attr"`
		Line      int           `xml:"line,attr"`
		Failure   *junitFailure `xml:"failure,omitempty"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes the report as the JUnit XML that CI systems read.
func (r *Report) WriteJUnit(w io.Writer) error {
	var out junitSuites
	for i := range r.Results {
		result := &r.Results[i]
		t := result.Test
		if n := len(out.Suites); n == 0 || out.Suites[n-1].Name != t.File { // tests stand together by file
			out.Suites = append(out.Suites, junitSuite{Name: t.File})
		}
		suite := &out.Suites[len(out.Suites)-1]
		one := junitCase{Name: t.Name, ClassName: t.File, File: t.File, Line: t.Line}
		suite.Tests++
		if !result.Passed() {
			suite.Failures++
			message := result.Failures[0].Got
			if x := result.Failures[0].Expected; x != nil {
				message = x.Key + ": wanted " + x.Want + ", got " + message
			}
			one.Failure = &junitFailure{message, result.details()}
		}
		suite.Cases = append(suite.Cases, one)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(out); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
