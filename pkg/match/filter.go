package match

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
)

// Limits of filters.
const (
	// MaxFilterBytes is the longest filter expression.
	MaxFilterBytes = 4096

	// costLimit bounds the work of one evaluation, in CEL's units (about one per operation, and one
	// for ten characters of text): ten milliseconds or so at worst, and enough to look through a
	// list of ten thousand elements or a text of the largest payload's size.
	costLimit = 120_000
	// regexLimit bounds what a regular expression compiles to.
	regexLimit = 2_000
)

// The names that an expression may use.
const (
	varID     = "event.id"
	varType   = "event.type"
	varSource = "event.source"
	varTime   = "event.time"
	varLabels = "event.labels"
	varData   = "data"
)

// Filter is a compiled CEL expression. It is safe for concurrent use. A nil or zero Filter matches
// everything.
type Filter struct {
	program cel.Program
}

// environment is the language of filters: CEL's standard library, event.* and data. It is made
// once, on first use, and never changed. There is no clock in it, so a filter gives the same
// answer for an event each time it is asked.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable(varID, cel.StringType),
		cel.Variable(varType, cel.StringType),
		cel.Variable(varSource, cel.StringType),
		cel.Variable(varTime, cel.TimestampType),
		cel.Variable(varLabels, cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable(varData, cel.DynType),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(MaxFilterBytes),
		cel.RegexProgramSizeLimit(regexLimit),
	)
})

// CompileFilter compiles a CEL expression over event.id, event.type, event.source, event.time,
// event.labels and data, which must give a bool. Data is the payload as JSON, where numbers are
// doubles as CEL defines it, except integers that a double cannot hold, which are ints; a value of
// data is dynamic, so "data.active" must be written as "data.active == true". An empty expression
// matches everything.
func CompileFilter(expr string) (*Filter, error) {
	if len(expr) > MaxFilterBytes {
		return nil, fmt.Errorf("must be at most %d bytes", MaxFilterBytes)
	}
	if strings.TrimSpace(expr) == "" {
		return &Filter{}, nil
	}
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("make the filter environment: %w", err)
	}
	ast, issues := compile(env, expr)
	if issues.Err() != nil {
		return nil, compileError(issues)
	}
	if !ast.OutputType().IsExactType(cel.BoolType) {
		return nil, fmt.Errorf("must give a bool, not %s; compare values of data, as in data.active == true",
			cel.FormatCELType(ast.OutputType()))
	}
	program, err := env.Program(ast, cel.CostLimit(costLimit), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	return &Filter{program: program}, nil
}

// compiling is held while an expression is checked: cel-go fills the catalogue of names of a shared
// environment, from which it makes its suggestions, without a lock that all of its readers take.
var compiling sync.Mutex

func compile(env *cel.Env, expr string) (*cel.Ast, *cel.Issues) {
	compiling.Lock()
	defer compiling.Unlock()
	return env.Compile(expr)
}

// compileError lists what the compiler found, each in one line with its place.
func compileError(issues *cel.Issues) error {
	errs := make([]error, 0, len(issues.Errors()))
	for _, e := range issues.Errors() {
		errs = append(errs, fmt.Errorf("line %d, column %d: %s", e.Location.Line(), e.Location.Column()+1, e.Message))
	}
	return errors.Join(errs...)
}

// Match evaluates the filter. An error means that there is no answer: data that is not JSON, a key
// that is not there, types that do not go together, or too much work. The event does not match
// then, and the caller records why.
func (f *Filter) Match(a *Attributes) (bool, error) {
	if f == nil || f.program == nil {
		return true, nil
	}
	out, _, err := f.program.Eval((*activation)(a))
	// An error of decoding stands even where CEL's logic absorbed it (error || true), so that the
	// answer does not depend on the order in which operands were tried.
	if a.decodeErr != nil && a.asked {
		a.asked = false
		return false, a.decodeErr
	}
	a.asked = false
	if err != nil {
		return false, err
	}
	matched, ok := out.Value().(bool)
	if !ok { // the compiler excludes it
		return false, fmt.Errorf("gave %s, not a bool", out.Type().TypeName())
	}
	return matched, nil
}
