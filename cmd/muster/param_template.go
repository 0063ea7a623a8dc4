package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/template/parse"

	"github.com/muster-fleet/muster/node/fleet"
)

// A template has the syntax of Go's text/template, of which parse reads all and this evaluates a part: text, actions with
// functions and pipes, variables, if, with and range. The package text/template itself would call methods by name, which
// keeps every method of the program in the binary.

// templateFunction is a function that templates call. Arguments are strings, bools, lists ([]any) and things with fields.
type templateFunction func(args []any) (any, error)

// fielded is a thing with fields.
type fielded interface {
	field(name string) (v any, ok bool, err error)
}

// maxSteps bounds what a template does: its author may not be who runs it.
const maxSteps = 1_000_000

// execution is one evaluation of a template.
type execution struct {
	tree      *parse.Tree
	functions map[string]templateFunction
	out       bounded
	variables []templateVariable // the newest last
	steps     int
}

type templateVariable struct {
	name  string
	value any
}

// loopControl ends a turn of a range, or all of it.
type loopControl bool

const (
	loopContinue loopControl = false
	loopBreak    loopControl = true
)

func (loopControl) Error() string { return "break or continue outside of range" }

// executeTemplate evaluates a template. Errors name the template and the line.
func executeTemplate(name, text string, functions map[string]templateFunction, most int) ([]byte, error) {
	known := map[string]any{}
	for f := range functions {
		known[f] = true
	}
	tree := parse.New(name)
	trees := map[string]*parse.Tree{}
	if _, err := tree.Parse(text, "", "", trees, known); err != nil {
		return nil, fleet.Errorf(fleet.Invalid, "%s", unprefixed(err.Error()))
	}
	for other := range trees {
		if other != name {
			return nil, fleet.Errorf(fleet.Invalid, "%s: templates within it ({{ define %q }}) are not understood", name, other)
		}
	}
	x := execution{tree: tree, functions: functions, out: bounded{most: most}}
	if tree.Root == nil { // it is empty
		return nil, nil
	}
	if err := x.list(tree.Root, nil); err != nil {
		return nil, err
	}
	return x.out.Bytes(), nil
}

func unprefixed(text string) string { return strings.TrimPrefix(text, "template: ") }

// at says where in the template an error arose.
func (x *execution) at(n parse.Node, err error) error {
	if _, loop := errors.AsType[loopControl](err); loop || err == nil {
		return err
	}
	if _, placed := errors.AsType[placedError](err); placed {
		return err
	}
	where, _ := x.tree.ErrorContext(n)
	if colon := strings.LastIndexByte(where, ':'); colon > 0 {
		where = where[:colon] // the line is enough
	}
	out := fleet.Errorf(fleet.KindOf(err), "%s: %w", where, err)
	if fleet.KindOf(err) == fleet.Internal {
		out.Kind = fleet.Invalid
	}
	if e, ok := errors.AsType[*fleet.Error](err); ok {
		out.Hint = e.Hint
	}
	return placedError{out}
}

// placedError is an error that says where it arose.
type placedError struct{ err *fleet.Error }

func (e placedError) Error() string { return e.err.Error() }

// Unwrap returns the error for people.
func (e placedError) Unwrap() error { return e.err }

func (x *execution) list(l *parse.ListNode, dot any) error {
	if l == nil {
		return nil
	}
	for _, n := range l.Nodes {
		if x.steps++; x.steps > maxSteps {
			return x.at(n, fleet.Errorf(fleet.Exhausted, "it does not come to an end"))
		}
		if err := x.node(n, dot); err != nil {
			return x.at(n, err)
		}
	}
	return nil
}

func (x *execution) node(n parse.Node, dot any) error {
	switch n := n.(type) {
	case *parse.TextNode:
		_, err := x.out.Write(n.Text)
		return err
	case *parse.CommentNode:
		return nil
	case *parse.ActionNode:
		v, err := x.pipe(n.Pipe, dot)
		if err != nil || len(n.Pipe.Decl) > 0 {
			return err
		}
		return x.print(v)
	case *parse.IfNode:
		return x.branch(&n.BranchNode, dot, false)
	case *parse.WithNode:
		return x.branch(&n.BranchNode, dot, true)
	case *parse.RangeNode:
		return x.loop(n, dot)
	case *parse.BreakNode:
		return loopBreak
	case *parse.ContinueNode:
		return loopContinue
	}
	return fleet.Errorf(fleet.Invalid, "%s is not understood", n)
}

func (x *execution) print(v any) error {
	text, err := textOf(v)
	if err == nil {
		_, err = x.out.Write([]byte(text))
	}
	return err
}

func textOf(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int:
		return strconv.Itoa(v), nil
	}
	return "", fleet.Errorf(fleet.Invalid, "that is no text")
}

// truth says what an if thinks of a value.
func truth(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case string:
		return v != ""
	case bool:
		return v
	case int:
		return v != 0
	case []any:
		return len(v) > 0
	}
	return true
}

func (x *execution) branch(b *parse.BranchNode, dot any, with bool) error {
	depth := len(x.variables)
	defer func() { x.variables = x.variables[:depth] }()
	v, err := x.pipe(b.Pipe, dot)
	switch {
	case err != nil:
		return err
	case !truth(v):
		return x.list(b.ElseList, dot)
	case with:
		return x.list(b.List, v)
	}
	return x.list(b.List, dot)
}

func (x *execution) loop(n *parse.RangeNode, dot any) error {
	depth := len(x.variables)
	defer func() { x.variables = x.variables[:depth] }()
	v, err := x.commands(n.Pipe, dot)
	if err != nil {
		return err
	}
	items, ok := v.([]any)
	switch {
	case !ok:
		return fleet.Errorf(fleet.Invalid, "range goes over lists").Hinted(`{{ range below "/path" }}, or {{ range split "," (param "NAME") }}`)
	case len(items) == 0:
		return x.list(n.ElseList, dot)
	}
	for i, item := range items {
		x.variables = x.variables[:depth]
		switch d := n.Pipe.Decl; len(d) {
		case 1:
			x.declare(d[0], item)
		case 2:
			x.declare(d[0], i)
			x.declare(d[1], item)
		}
		err := x.list(n.List, item)
		if control, is := errors.AsType[loopControl](err); is {
			if control == loopBreak {
				return nil
			}
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (x *execution) declare(v *parse.VariableNode, value any) {
	x.variables = append(x.variables, templateVariable{v.Ident[0], value})
}

// pipe evaluates a pipeline, and declares or sets the variable that it is for.
func (x *execution) pipe(p *parse.PipeNode, dot any) (any, error) {
	v, err := x.commands(p, dot)
	if err != nil || len(p.Decl) == 0 {
		return v, err
	}
	if len(p.Decl) > 1 {
		return nil, fleet.Errorf(fleet.Invalid, "two variables are for range alone")
	}
	if !p.IsAssign {
		x.declare(p.Decl[0], v)
		return v, nil
	}
	for i := range slices.Backward(x.variables) {
		if x.variables[i].name == p.Decl[0].Ident[0] {
			x.variables[i].value = v
			return v, nil
		}
	}
	return nil, fleet.Errorf(fleet.Invalid, "no variable %s", p.Decl[0])
}

func (x *execution) commands(p *parse.PipeNode, dot any) (v any, err error) {
	for i, c := range p.Cmds {
		var piped []any
		if i > 0 {
			piped = []any{v}
		}
		if v, err = x.command(c, dot, piped); err != nil {
			return nil, x.at(c, err)
		}
	}
	return v, nil
}

func (x *execution) command(c *parse.CommandNode, dot any, piped []any) (any, error) {
	name, isCall := c.Args[0].(*parse.IdentifierNode)
	if !isCall {
		if len(c.Args) > 1 || len(piped) > 0 {
			return nil, fleet.Errorf(fleet.Invalid, "%s is no function", c.Args[0])
		}
		return x.operand(c.Args[0], dot)
	}
	var args []any
	for _, n := range c.Args[1:] {
		v, err := x.operand(n, dot)
		if err != nil {
			return nil, err
		}
		args = append(args, v)
	}
	f := x.functions[name.Ident]
	if f == nil { // parse knows no other
		return nil, fleet.Errorf(fleet.Invalid, "no function %s", name.Ident)
	}
	v, err := f(append(args, piped...))
	if errors.Is(err, errArguments) {
		err = fleet.Errorf(fleet.Invalid, "%s takes other arguments", name.Ident).Hinted("muster param render --help")
	}
	return v, err
}

// errArguments says that a function does not take such arguments.
var errArguments = errors.New("other arguments")

func (x *execution) operand(n parse.Node, dot any) (any, error) {
	switch n := n.(type) {
	case *parse.StringNode:
		return n.Text, nil
	case *parse.BoolNode:
		return n.True, nil
	case *parse.NumberNode:
		if n.IsInt {
			return int(n.Int64), nil
		}
	case *parse.DotNode:
		return dot, nil
	case *parse.FieldNode:
		return fieldsOf(dot, n.Ident)
	case *parse.VariableNode:
		for _, v := range slices.Backward(x.variables) {
			if v.name == n.Ident[0] {
				return fieldsOf(v.value, n.Ident[1:])
			}
		}
		return nil, fleet.Errorf(fleet.Invalid, "no variable %s here", n.Ident[0])
	case *parse.PipeNode:
		return x.pipe(n, dot)
	case *parse.IdentifierNode: // a function without arguments, as an argument
		return x.command(&parse.CommandNode{Args: []parse.Node{n}}, dot, nil)
	case *parse.ChainNode:
		v, err := x.operand(n.Node, dot)
		if err != nil {
			return nil, err
		}
		return fieldsOf(v, n.Field)
	}
	return nil, fleet.Errorf(fleet.Invalid, "%s is not understood", n)
}

func fieldsOf(v any, names []string) (any, error) {
	for _, name := range names {
		thing, ok := v.(fielded)
		if !ok {
			return nil, fleet.Errorf(fleet.Invalid, "no .%s here", name).Hinted(`fields are of what {{ range below "/path" }} goes over`)
		}
		next, ok, err := thing.field(name)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fleet.Errorf(fleet.Invalid, "no field .%s", name).Hinted(".Name, .Key, .Value, .Secret, .Version")
		}
		v = next
	}
	return v, nil
}

// ofTexts makes a function of one that takes n texts.
func ofTexts(n int, f func(texts []string) (any, error)) templateFunction {
	return func(args []any) (any, error) {
		var texts []string
		for _, a := range args {
			text, err := textOf(a)
			if err != nil {
				return nil, errArguments
			}
			texts = append(texts, text)
		}
		if len(texts) != n {
			return nil, errArguments
		}
		return f(texts)
	}
}

// plainFunctions are those that need nothing but their arguments.
func plainFunctions() map[string]templateFunction {
	return map[string]templateFunction{
		"quote": ofTexts(1, func(t []string) (any, error) { return strconv.Quote(t[0]), nil }),
		"eq":    ofTexts(2, func(t []string) (any, error) { return t[0] == t[1], nil }),
		"ne":    ofTexts(2, func(t []string) (any, error) { return t[0] != t[1], nil }),
		"split": ofTexts(2, func(t []string) (any, error) {
			var out []any
			for part := range strings.SplitSeq(t[1], t[0]) {
				out = append(out, part)
			}
			return out, nil
		}),
		"not": func(args []any) (any, error) {
			if len(args) != 1 {
				return nil, errArguments
			}
			return !truth(args[0]), nil
		},
		"printf": func(args []any) (any, error) {
			if len(args) == 0 {
				return nil, errArguments
			}
			format, err := textOf(args[0])
			if err != nil {
				return nil, errArguments
			}
			return fmt.Sprintf(format, args[1:]...), nil
		},
	}
}
