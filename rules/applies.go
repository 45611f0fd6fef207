package rules

import (
	"regexp"
	"slices"

	"github.com/goccy/go-yaml/ast"
	"github.com/sluice-risk/sluice/pipeline/payment"
)

// AppliesTo names the transactions that something is about. An empty list is all.
type AppliesTo struct {
	Types    []payment.Type
	Channels []string
}

// matches reports whether a transaction of the type on the channel is meant.
func (a *AppliesTo) matches(t payment.Type, channel string) bool {
	return (len(a.Types) == 0 || slices.Contains(a.Types, t)) && (len(a.Channels) == 0 || slices.Contains(a.Channels, channel))
}

// A channel is written as the contract has it.
var channelPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$`)

const channelHint = "a channel such as qr: letters, digits, and _ - . after the first, at most 32"

// appliesTo reads which transactions something is about.
func (n node) appliesTo() AppliesTo {
	var a AppliesTo
	n.object("applies_to",
		field{"type", func(v node) {
			for _, m := range v.oneOrMore() {
				if s, ok := m.choice("a type", payment.TypeNames()...); ok {
					t, _ := payment.ParseType(s)
					a.Types = appendNew(m, "type", a.Types, t)
				}
			}
			v.notEmpty("types")
		}},
		field{"channel", func(v node) {
			for _, m := range v.oneOrMore() {
				if s, ok := m.name("a channel", channelPattern, channelHint); ok {
					a.Channels = appendNew(m, "channel", a.Channels, s)
				}
			}
			v.notEmpty("channels")
		}})
	return a
}

// notEmpty reports a list without members: it would mean all, and reads as none.
func (n node) notEmpty(what string) {
	if v, ok := n.ast.(*ast.SequenceNode); ok && len(v.Values) == 0 {
		n.suggest(n.place(), "leave the key out to mean all", "the list of %s is empty", what)
	}
}

// appendNew adds a member of a list that is not there yet.
func appendNew[T comparable](n node, what string, to []T, v T) []T {
	if slices.Contains(to, v) {
		n.at(n.place(), "this %s is there twice", what)
		return to
	}
	return append(to, v)
}
