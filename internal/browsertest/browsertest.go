// Package browsertest looks at pages in headless Chromium. It guarantees that a page which complains on its console, asks anybody but this machine, or is
// broader than its window fails the test that opened it.
package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/everflag/everflag/internal/testenv"
)

// stepTimeout bounds one step on a busy machine.
const stepTimeout = 30 * time.Second

// Browser is a running Chromium with one tab.
type Browser struct {
	ctx context.Context

	mu       sync.Mutex
	problems []string
	requests int
}

// Tab starts Chromium with one tab, which reaches nobody but this machine. It tells the listener what happens in the tab, and ended when the browser has
// ended with the test.
func Tab(t *testing.T, listener func(event any), ended func()) context.Context {
	t.Helper()
	binary := testenv.Tool(t, "chromium", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(binary), chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"), // whatever browser and page would like to reach
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...) // not t.Context: the browser is told to end before it is made to
	tab, closeTab := chromedp.NewContext(allocator, chromedp.WithListener(listener))
	t.Cleanup(func() {
		_ = chromedp.Cancel(tab) // however it says farewell, the next lines wait until it is gone
		closeTab()
		stop()
		ended()
	})
	return tab
}

// New starts Chromium.
func New(t *testing.T) *Browser {
	t.Helper()
	b := &Browser{}
	b.ctx = Tab(t, b.note, func() { b.Check(t) })
	b.Do(t, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
			return err
		}
		_, err := chromedp.Call(ctx, cdplog.Enable, struct{}{})
		return err
	}))
	return b
}

// note keeps what a page must not do.
func (b *Browser) note(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		b.requests++
		if u, err := url.Parse(e.Request.URL); err != nil || u.Hostname() != "127.0.0.1" && u.Scheme != "data" {
			b.problems = append(b.problems, "asked for "+e.Request.URL)
		}
	case *runtime.EventExceptionThrown:
		b.problems = append(b.problems, "exception: "+e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		text, _ := json.Marshal(e.Args) // what came as JSON
		b.problems = append(b.problems, fmt.Sprintf("console.%s: %s", e.Type, text))
	case *cdplog.EventEntryAdded:
		b.problems = append(b.problems, fmt.Sprintf("%s: %s (%s)", e.Entry.Level, e.Entry.Text, e.Entry.URL))
	}
}

// Check fails the test for what pages did so far, and forgets it.
func (b *Browser) Check(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.problems) > 0 {
		t.Errorf("pages did what they must not:\n%s", strings.Join(b.problems, "\n"))
	}
	if b.requests == 0 {
		t.Error("pages asked for nothing at all: their requests are not seen")
	}
	b.problems = nil
}

// Forgive forgets what pages did so far: for a test that took the server away, after a Check.
func (b *Browser) Forgive() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = nil
}

// Do runs actions on the tab.
func (b *Browser) Do(t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := b.try(t, actions...); err != nil {
		t.Fatalf("in the browser: %v", err)
	}
}

func (b *Browser) try(t *testing.T, actions ...chromedp.Action[chromedp.Void]) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- chromedp.Do(b.ctx, actions...) }()
	select {
	case err := <-ended:
		return err
	case <-time.After(stepTimeout):
		t.Fatalf("a step in the browser takes longer than %v", stepTimeout)
		return nil
	}
}

// betweenPages reports whether a page was asked that was just being left for another one.
func betweenPages(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "navigated or closed") || strings.Contains(err.Error(), "xecution context"))
}

// Window is what a visitor has.
type Window struct {
	Width, Height int64
	Dark          bool
}

// The windows that pages have to do in.
var (
	Desktop = Window{Width: 1200, Height: 900}
	Phone   = Window{Width: 390, Height: 844}
)

// Open opens a page in a window, and wants it to be no broader.
func (b *Browser) Open(t *testing.T, w Window, address string) {
	t.Helper()
	b.resize(t, w)
	b.Do(t, chromedp.Navigate(address))
	b.Fits(t)
}

// resize also asks for no motion: a colour on its way to another one is not the one that people read.
func (b *Browser) resize(t *testing.T, w Window) {
	t.Helper()
	scheme := "light"
	if w.Dark {
		scheme = "dark"
	}
	b.Do(t, chromedp.EmulateViewport(w.Width, w.Height), chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
		})
		return err
	}))
}

// Fits wants that nothing makes the page broader than its window.
func (b *Browser) Fits(t *testing.T) {
	t.Helper()
	const broad = `[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
		.slice(0, 5).map((e) => e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 40)).join('; ')`
	if Eval[float64](t, b, "document.documentElement.scrollWidth - document.documentElement.clientWidth") > 0 {
		t.Errorf("the page %s is broader than its window: %s", Eval[string](t, b, "location.href"), Eval[string](t, b, broad))
	}
}

// Eval evaluates an expression, on the next page if it meets one that is just being left.
func Eval[T any](t *testing.T, b *Browser, expression string) (value T) {
	t.Helper()
	testenv.Eventually(t, stepTimeout, func() error {
		err := b.try(t, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) (err error) {
			value, err = chromedp.Run(ctx, chromedp.Evaluate[T](expression))
			return err
		}))
		if err != nil && !betweenPages(err) {
			t.Fatalf("in the browser: %v", err)
		}
		return err
	})
	return value
}

// Text is the text that an element shows; empty if there is no such element.
func (b *Browser) Text(t *testing.T, selector string) string {
	t.Helper()
	return Eval[string](t, b, fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector))
}

// Await waits until an element shows the text.
func (b *Browser) Await(t *testing.T, selector, text string) {
	t.Helper()
	testenv.Eventually(t, stepTimeout, func() error {
		if shown := b.Text(t, selector); !strings.Contains(shown, text) {
			return fmt.Errorf("%s shows %.600q, want %q in it", selector, shown, text)
		}
		return nil
	})
}

// Press sends keys to whatever has the focus, as a keyboard does.
func (b *Browser) Press(t *testing.T, keys string, options ...chromedp.KeyOption) {
	t.Helper()
	b.Do(t, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Run(ctx, chromedp.KeyEvent(keys, options...))
		return err
	}))
}

// Shortcut sends a key that the page may keep from being typed.
func (b *Browser) Shortcut(t *testing.T, key string) {
	t.Helper()
	b.Do(t, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: key, Text: key})
		if err == nil {
			_, err = chromedp.Call(ctx, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyUp, Key: key})
		}
		return err
	}))
}

// Focused describes what has the focus: its id, or its text.
func (b *Browser) Focused(t *testing.T) string {
	t.Helper()
	return Eval[string](t, b, "document.activeElement.id || document.activeElement.name || document.activeElement.innerText")
}

// Screenshot writes what the window shows to a file, if EVERFLAG_SCREENSHOTS names a folder.
func (b *Browser) Screenshot(t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("EVERFLAG_SCREENSHOTS")
	if dir == "" {
		return
	}
	var picture []byte
	b.Do(t, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) (err error) {
		picture, err = chromedp.Run(ctx, chromedp.CaptureScreenshot())
		return err
	}))
	if err := os.WriteFile(filepath.Join(dir, name), picture, 0o644); err != nil {
		t.Fatal(err)
	}
}
