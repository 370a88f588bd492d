package node_test

import (
	"go/ast"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/nodetest/testenv"
)

const (
	maxFunctionLines = 70
	maxFileLines     = 600
)

func TestSizes(t *testing.T) {
	for _, f := range tree(t) {
		if n := strings.Count(f.text, "\n"); n > maxFileLines {
			t.Errorf("%s has %d lines, the most is %d", f.path, n, maxFileLines)
		}
		for _, d := range f.tree.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				if n := f.lines(fn) - tableLines(f, fn); n > maxFunctionLines {
					t.Errorf("%s: %s has %d lines besides its tables, the most is %d", f.position(fn), fn.Name.Name, n, maxFunctionLines)
				}
			}
		}
	}
}

// tableLines counts the lines of lists and maps written out in a function: a table is read by rows.
func tableLines(f file, fn *ast.FuncDecl) int {
	lines := 0
	ast.Inspect(fn, func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		switch lit.Type.(type) {
		case *ast.ArrayType, *ast.MapType:
			lines += f.lines(lit) - 1
			return false
		}
		return true
	})
	return lines
}

// TestPackagesSayWhatTheyAreFor wants one package comment per package that says more than the name.
func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	docs := map[string][]string{}
	for _, f := range tree(t) {
		if f.test() {
			continue
		}
		if f.tree.Doc == nil {
			docs[f.dir] = append(docs[f.dir], "")
			continue
		}
		docs[f.dir] = append(docs[f.dir], strings.TrimSpace(f.tree.Doc.Text()))
	}
	for dir, texts := range docs {
		texts = slices.DeleteFunc(texts, func(s string) bool { return s == "" })
		switch {
		case len(texts) == 0:
			t.Errorf("%s has no package comment", dir)
		case len(texts) > 1:
			t.Errorf("%s has %d package comments", dir, len(texts))
		case len(texts[0]) < 60:
			t.Errorf("%s says too little of itself: %q", dir, texts[0])
		}
	}
}

// TestExportedNamesAreExplained wants a doc comment on every exported name outside mains and tests.
func TestExportedNamesAreExplained(t *testing.T) {
	for _, f := range tree(t) {
		if f.test() || f.tree.Name.Name == "main" {
			continue
		}
		for _, d := range f.tree.Decls {
			for _, name := range undocumented(d) {
				t.Errorf("%s: %s has no doc comment", f.position(name), name.Name)
			}
		}
	}
}

func undocumented(d ast.Decl) []*ast.Ident {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && !saysItself(d) {
			return []*ast.Ident{d.Name}
		}
	case *ast.GenDecl:
		return undocumentedIn(d)
	}
	return nil
}

// saysItself is true for the methods that make something an error or printable.
func saysItself(d *ast.FuncDecl) bool {
	return d.Recv != nil && slices.Contains([]string{"Error", "Unwrap", "String"}, d.Name.Name)
}

// exportedReceiver is true for functions, and for methods of exported types.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	receiver := d.Recv.List[0].Type
	for {
		switch r := receiver.(type) {
		case *ast.StarExpr:
			receiver = r.X
		case *ast.IndexExpr:
			receiver = r.X
		case *ast.Ident:
			return r.IsExported()
		default:
			return true
		}
	}
}

// undocumentedIn lets the comment of a group, or one at the line's end, stand for its constants and variables.
func undocumentedIn(d *ast.GenDecl) []*ast.Ident {
	var names []*ast.Ident
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
				names = append(names, s.Name)
			}
		case *ast.ValueSpec:
			if s.Doc == nil && s.Comment == nil && d.Doc == nil {
				names = append(names, exported(s.Names)...)
			}
		}
	}
	return names
}

func exported(names []*ast.Ident) []*ast.Ident {
	return slices.DeleteFunc(slices.Clone(names), func(n *ast.Ident) bool { return !n.IsExported() })
}

// banned are the words of style.md that say nothing, as whole words of a name.
var banned = []string{"manager", "handler", "helper", "helpers", "util", "utils", "common", "data", "info", "process", "misc"}

// allowedNames are names with a banned word that is the right one there, each with its reason.
var allowedNames = map[string]string{
	"node/api.Process":      "OCI's and Compose's own word for what runs inside an instance",
	"node/machine.HomeData": "the role is called home_data",
}

// TestNames refuses names that say nothing: of packages, files, types, functions, and top-level values.
func TestNames(t *testing.T) {
	for _, f := range tree(t) {
		base := strings.TrimSuffix(path.Base(f.path), ".go")
		if word := bannedWord(strings.TrimSuffix(base, "_test")); word != "" {
			t.Errorf("%s: a file called %q", f.path, word)
		}
		if word := bannedWord(path.Base(f.dir)); word != "" {
			t.Errorf("%s: a package called %q", f.dir, word)
		}
		if f.test() {
			continue
		}
		for _, d := range f.tree.Decls {
			for _, name := range declared(d) {
				word := bannedWord(name.Name)
				if word != "" && allowedNames[f.dir+"."+name.Name] == "" && !(word == "handler" && servesHTTP(f)) {
					t.Errorf("%s: %s says %q", f.position(name), name.Name, word)
				}
			}
		}
	}
}

func servesHTTP(f file) bool { return slices.Contains(f.imports(), "net/http") }

func declared(d ast.Decl) []*ast.Ident {
	switch d := d.(type) {
	case *ast.FuncDecl:
		return []*ast.Ident{d.Name}
	case *ast.GenDecl:
		var names []*ast.Ident
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				names = append(names, s.Name)
			case *ast.ValueSpec:
				names = append(names, s.Names...)
			}
		}
		return names
	}
	return nil
}

var words = regexp.MustCompile(`[A-Z]+(?:[a-z0-9]+)?|[a-z0-9]+`)

func bannedWord(name string) string {
	for _, word := range words.FindAllString(name, -1) {
		if word = strings.ToLower(word); slices.Contains(banned, word) {
			return word
		}
	}
	return ""
}

func TestNoInit(t *testing.T) {
	for _, f := range tree(t) {
		for _, d := range f.tree.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: an init function: registration is the composition root's", f.position(fn))
			}
		}
	}
}

// TestFoldersAreSyncedInOnePlace: there were nine copies of durable.SyncFolder once, and they did not agree.
func TestFoldersAreSyncedInOnePlace(t *testing.T) {
	for _, f := range tree(t) {
		for _, d := range f.tree.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && slices.Contains([]string{"syncdir", "syncfolder"}, strings.ToLower(fn.Name.Name)) && f.dir != durable {
				t.Errorf("%s: durable.SyncFolder does it", f.position(fn))
			}
		}
	}
}

// TestEveryCodeIsExplainedAndProduced wants each code in the table that operators read, and in some test.
func TestEveryCodeIsExplainedAndProduced(t *testing.T) {
	codes, table := codesOf(t)
	if len(codes) < 50 {
		t.Fatalf("only %d codes were found", len(codes))
	}
	tests, seen := testTexts(t), map[string]string{}
	for name, code := range codes {
		if other := seen[code]; other != "" {
			t.Errorf("%s and %s are both %q", name, other, code)
		}
		seen[code] = name
		if !strings.Contains(table, "{"+name+",") {
			t.Errorf("%s (%s) is not in the table of node/api/codes.go", name, code)
		}
		if !mentions(tests, name, code) {
			t.Errorf("%s (%s) is in no test: which one produces it?", name, code)
		}
	}
}

// codesOf are the codes by the names of their constants, and the text of the table.
func codesOf(t *testing.T) (codes map[string]string, table string) {
	codes = map[string]string{}
	for _, f := range tree(t) {
		if f.dir != "node/api" || f.test() {
			continue
		}
		maps.Copy(codes, constants(f, "Code"))
		if f.path == "node/api/codes.go" {
			_, table, _ = strings.Cut(f.text, "func Codes()")
		}
	}
	return codes, table
}

// testTexts is everything that tests say: their files, the suites, and the goldens.
func testTexts(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, f := range tree(t) {
		if f.path != "node/house_test.go" && (f.test() || madeForTests(f.dir)) {
			b.WriteString(f.text)
		}
	}
	goldens, err := fs.Glob(os.DirFS(testenv.Repo()), "*/*/testdata/*.txt*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range goldens {
		text, err := os.ReadFile(filepath.Join(testenv.Repo(), name))
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	return b.String()
}

// predicates of node/store stand for their codes.
var predicates = map[string]string{
	"CodeStoreConflict": "IsConflict", "CodeStoreNotFound": "IsNotFound",
	"CodeStoreUncertain": "IsUncertain", "CodeStoreUnavailable": "IsUnavailable",
}

func mentions(tests, name, code string) bool {
	words := []string{name, regexp.QuoteMeta(code)}
	if p := predicates[name]; p != "" {
		words = append(words, p)
	}
	return regexp.MustCompile(`\b(` + strings.Join(words, "|") + `)\b`).MatchString(tests)
}

// constants are a file's string constants: of a type, or, where the type is "", with a prefix.
func constants(f file, typeName string) map[string]string {
	found := map[string]string{}
	for _, d := range f.tree.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, spec := range g.Specs {
			s := spec.(*ast.ValueSpec)
			if kind, ok := s.Type.(*ast.Ident); typeName != "" && (!ok || kind.Name != typeName) {
				continue
			}
			for i, name := range s.Names {
				if i < len(s.Values) {
					if value := literal(s.Values[i]); value != "" {
						found[name.Name] = value
					}
				}
			}
		}
	}
	return found
}

func literal(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	value, err := strconv.Unquote(lit.Value)
	if err != nil {
		return ""
	}
	return value
}

// TestEveryOperationIsBroken wants every kind that a request can name to be a case of optest: in a test file that
// calls optest.Exhaust it is the name of a subtest, given to t.Run or a table's key, as "deploy/first" or as
// api.KindDeploy. Exhaust itself refuses a subtest whose operation is of another kind than its name.
func TestEveryOperationIsBroken(t *testing.T) {
	kinds, broken := map[string]string{}, map[string]bool{}
	for _, f := range tree(t) {
		if f.dir == "node/api" && !f.test() {
			for name, value := range constants(f, "") {
				if strings.HasPrefix(name, "Kind") {
					kinds[name] = value
				}
			}
		}
		if !f.test() || f.path == "node/house_test.go" || !strings.Contains(f.text, "optest.Exhaust(") {
			continue
		}
		ast.Inspect(f.tree, func(n ast.Node) bool {
			switch name := subtest(n).(type) {
			case *ast.BasicLit:
				kind, _, _ := strings.Cut(literal(name), "/")
				broken[kind] = true
			case *ast.SelectorExpr:
				broken[name.Sel.Name] = true
			}
			return true
		})
	}
	if len(kinds) == 0 {
		t.Fatal("no kinds of operations were found in node/api")
	}
	for name, kind := range kinds {
		if !broken[kind] && !broken[name] {
			t.Errorf("api.%s: the operation %q is in no table that optest breaks", name, kind)
		}
	}
}

// subtest is the expression that may name a subtest, or nil.
func subtest(n ast.Node) ast.Expr {
	switch n := n.(type) {
	case *ast.KeyValueExpr:
		return n.Key
	case *ast.CallExpr:
		if f, ok := n.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "Run" && len(n.Args) == 2 {
			return n.Args[0]
		}
	}
	return nil
}
