package rules

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/parser/lexer"
)

// The bounds of one expression.
const (
	maxExpressionBytes = 4 << 10
	maxExpressionNodes = 500
)

// parse returns the syntax tree, bounded.
func (c *compiler[E]) parse() (ast.Node, bool) {
	text := c.src.text
	end := utf8.RuneCountInString(strings.TrimRight(text, " \n"))
	if end == 0 {
		c.src.suggest(c.src.place(), "", "the expression is empty")
		return nil, false
	}
	if len(text) > maxExpressionBytes {
		c.problem(span{0, 1}, "split the rule", "the expression has %d bytes, more than %d", len(text), maxExpressionBytes)
		return nil, false
	}
	config := conf.CreateNew()
	config.MaxNodes = maxExpressionNodes
	tree, err := parser.ParseWithConfig(text, config)
	if err != nil {
		var syntax *file.Error
		if !errors.As(err, &syntax) {
			c.problem(span{0, end}, "", "%v", err)
			return nil, false
		}
		c.syntax(syntax, end)
		return nil, false
	}
	tokens, _ := lexer.Lex(file.NewSource(text))
	for _, t := range tokens {
		if t.Kind == lexer.Operator && slices.Contains([]string{"|", "::", "if", "#"}, t.Value) {
			c.problem(span{t.From, t.To}, "", "%s is not part of the language", t.Value)
			return nil, false
		}
	}
	return tree.Node, true
}

// syntax reports what expr's parser could not read.
func (c *compiler[E]) syntax(e *file.Error, end int) {
	at, message, suggestion := span{e.From, e.To}, e.Message, ""
	switch {
	case strings.Contains(message, "maximum allowed nodes"):
		c.problem(span{0, end}, "split the rule", "the expression has more than %d parts", maxExpressionNodes)
		return
	case strings.Contains(message, "token EOF"):
		at, message = span{max(end-1, 0), end}, "the expression ends too early"
	case strings.Contains(message, `Operator("=")`):
		message, suggestion = "= is not an operator", "write == to compare"
	case strings.Contains(message, "cannot be mixed"):
		message, suggestion = "?? and another operator side by side", "put the ?? in parentheses: (x ?? 0) > 5"
	case message == "literal not terminated":
		message = "a text without its closing quote"
	case strings.HasPrefix(message, "unexpected token "):
		what := string([]rune(c.src.text)[min(at.from, end):min(max(at.from, at.to), end)])
		message = "unexpected " + what
	}
	c.problem(at, suggestion, "%s", message)
}

// span is the part of the text that a node was read from; parentheses around it
// are not in the tree.
func (c *compiler[E]) span(n ast.Node) span {
	l := n.Location()
	s := span{l.From, l.To}
	var parts []ast.Node
	switch n := n.(type) {
	case *ast.ConditionalNode:
		s = c.span(n.Cond)
		parts = []ast.Node{n.Exp1, n.Exp2}
	case *ast.UnaryNode:
		parts = []ast.Node{n.Node}
	case *ast.BinaryNode:
		parts = []ast.Node{n.Left, n.Right}
	case *ast.MemberNode:
		parts = []ast.Node{n.Node, n.Property}
	case *ast.CallNode:
		parts = n.Arguments
	case *ast.BuiltinNode:
		parts = n.Arguments
	case *ast.ArrayNode:
		parts = n.Nodes
	}
	for _, p := range parts {
		q := c.span(p)
		s.from, s.to = min(s.from, q.from), max(s.to, q.to)
	}
	switch n.(type) {
	case *ast.CallNode, *ast.BuiltinNode:
		s.to = c.closing(s.to, ')')
	case *ast.ArrayNode:
		s.to = c.closing(s.to, ']')
	}
	return s
}

// closing moves over blanks to a closing bracket, where one follows.
func (c *compiler[E]) closing(from int, bracket rune) int {
	text := []rune(c.src.text)
	for i := from; i < len(text); i++ {
		switch text[i] {
		case bracket:
			return i + 1
		case ' ', '\n', ',', '(':
		default:
			return from
		}
	}
	return from
}

// unsupported names a construct of expr that is left out.
func unsupported(n ast.Node) string {
	switch n.(type) {
	case *ast.ChainNode:
		return "?. is"
	case *ast.SliceNode:
		return "slices are"
	case *ast.PredicateNode, *ast.PointerNode:
		return "loops are"
	case *ast.VariableDeclaratorNode:
		return "variables are"
	case *ast.SequenceNode:
		return "; is"
	case *ast.MapNode, *ast.PairNode:
		return "maps are"
	case *ast.BytesNode:
		return "byte strings are"
	}
	return "this is"
}

// operator is the span of a node's operator alone.
func (c *compiler[E]) operator(n ast.Node) span { return span{n.Location().From, n.Location().To} }
