// Package pages is the frame of the pages for people. It guarantees that a page is complete without any other host and runs nothing that came with the
// data: names and values are escaped, and the Content-Security-Policy allows the two embedded assets alone. Pages change nothing.
package pages

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	"go.uber.org/zap"
)

//go:embed assets layout.html message.html
var embedded embed.FS

// policy allows what is embedded, and forms that come back here. No style attribute, no inline script, no frame around it.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Site is the pages of one program.
type Site struct {
	program, version string // the version with the host, to tell two pages apart
	pages            map[string]*template.Template
	assets           string // part of their addresses, so that a new version is not mixed with old ones
	log              *zap.Logger
}

// View is one page.
type View struct {
	Title string
	Trail []Link // the way here from the first page, which is not part of it
	Live  bool   // the parts marked data-live are renewed
	Body  any
}

// Link is a place in the trail.
type Link struct{ Name, Address string }

// frame is what the layout gets.
type frame struct {
	View
	Program, Version, Assets string
	Now                      time.Time
}

// parts is the file with templates that several pages of a program use.
const parts = "parts.html"

// New parses the templates in the directory pages: each file defines "content", which gets the Body; [parts] is optional.
func New(program, version string, templates fs.FS, log *zap.Logger) (*Site, error) {
	files, err := fs.Sub(templates, "pages")
	if err != nil {
		return nil, fmt.Errorf("opening the templates: %w", err)
	}
	host, _ := os.Hostname() // without one, the version is all there is to show
	s := &Site{program: program, version: version + " on " + cmp.Or(host, "an unnamed host"), pages: map[string]*template.Template{}, log: log}
	layout, err := template.New("layout.html").Funcs(template.FuncMap{"clip": Clip, "size": Size, "took": Took, "clock": Clock, "count": Count}).
		ParseFS(embedded, "layout.html")
	if err != nil {
		return nil, fmt.Errorf("parsing the layout: %w", err)
	}
	if _, err := fs.Stat(files, parts); err == nil {
		if layout, err = layout.ParseFS(files, parts); err != nil {
			return nil, fmt.Errorf("parsing what pages share: %w", err)
		}
	}
	for _, from := range []fs.FS{embedded, files} {
		names, err := fs.Glob(from, "*.html")
		if err != nil {
			return nil, fmt.Errorf("listing templates: %w", err)
		}
		for _, name := range names {
			if name == layout.Name() || name == parts {
				continue
			}
			page, err := layout.Clone()
			if err == nil {
				page, err = page.ParseFS(from, name)
			}
			if err != nil {
				return nil, fmt.Errorf("parsing %s: %w", name, err)
			}
			s.pages[strings.TrimSuffix(name, ".html")] = page
		}
	}
	return s, s.hashAssets()
}

func (s *Site) hashAssets() error {
	hash := sha256.New()
	err := fs.WalkDir(embedded, "assets", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := embedded.ReadFile(name)
		_, _ = hash.Write(content) // a hash takes everything
		return err
	})
	s.assets = hex.EncodeToString(hash.Sum(nil)[:6])
	return err
}

// Asset serves "GET /assets/{name}".
func (s *Site) Asset(w http.ResponseWriter, r *http.Request) {
	types := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	name := r.PathValue("name")
	content, err := embedded.ReadFile("assets/" + path.Base(name))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", types[path.Ext(name)])
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache")
	if r.URL.RawQuery == s.assets {
		h.Set("Cache-Control", "max-age=31536000, immutable")
	}
	_, _ = w.Write(content) // a client that has gone away needs no answer
}

// Show renders a page. It is complete before the first byte is sent.
func (s *Site) Show(w http.ResponseWriter, status int, page string, v View) {
	var text bytes.Buffer
	err := fmt.Errorf("no page %q", page)
	if t := s.pages[page]; t != nil {
		err = t.ExecuteTemplate(&text, "layout.html", frame{View: v, Program: s.program, Version: s.version, Assets: s.assets, Now: time.Now()})
	}
	if err != nil {
		s.log.Error("a page cannot be rendered", zap.String("page", page), zap.Error(err))
		http.Error(w, "the page cannot be rendered; the log says why", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin") // with less, browsers would not say that a form is ours
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes()) // a client that has gone away needs no answer
}

// Message shows a page that says one thing.
func (s *Site) Message(w http.ResponseWriter, status int, title, text string) {
	s.Show(w, status, "message", View{Title: title, Body: text})
}
