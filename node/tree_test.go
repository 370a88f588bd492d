package node_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/ployz/ployz/node/nodetest/testenv"
)

const module = "github.com/ployz/ployz/"

// file is one Go file of this repository.
type file struct {
	path      string // from the repository's root, with slashes
	dir       string
	text      string
	fset      *token.FileSet
	tree      *ast.File
	generated bool
}

func (f file) test() bool { return strings.HasSuffix(f.path, "_test.go") }

// position is where in the repository a node is.
func (f file) position(n ast.Node) string {
	return f.path + ":" + strconv.Itoa(f.fset.Position(n.Pos()).Line)
}

func (f file) lines(n ast.Node) int {
	return f.fset.Position(n.End()).Line - f.fset.Position(n.Pos()).Line + 1
}

// imports are the file's imports, those of this module without the module's name.
func (f file) imports() []string {
	var list []string
	for _, spec := range f.tree.Imports {
		list = append(list, strings.TrimPrefix(strings.Trim(spec.Path.Value, `"`), module))
	}
	return list
}

var readTree = sync.OnceValues(func() ([]file, error) {
	root := testenv.Repo()
	var files []file
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{".git", "dist", "bin", "testdata"}, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := readFile(root, name)
		files = append(files, f)
		return err
	})
	return files, err
})

func readFile(root, name string) (file, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return file{}, err
	}
	rel, err := filepath.Rel(root, name)
	if err != nil {
		return file{}, err
	}
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, name, text, parser.ParseComments)
	rel = filepath.ToSlash(rel)
	return file{
		path: rel, dir: path.Dir(rel), text: string(text), fset: fset, tree: tree,
		generated: bytes.Contains(text, []byte("\n// Code generated ")) || bytes.HasPrefix(text, []byte("// Code generated ")),
	}, err
}

// tree is every Go file of this repository that a person writes.
func tree(t *testing.T) []file {
	t.Helper()
	files, err := readTree()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 100 {
		t.Fatalf("only %d Go files were found: the walk is broken", len(files))
	}
	return slices.DeleteFunc(slices.Clone(files), func(f file) bool { return f.generated })
}

func under(dir, prefix string) bool { return dir == prefix || strings.HasPrefix(dir, prefix+"/") }
