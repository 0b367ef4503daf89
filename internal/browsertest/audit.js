// The flaws of the page that is shown, a line each.
(() => {
	const flaws = new Set()
	const name = (element) => {
		const text = (element.getAttribute('aria-label') || element.textContent || element.getAttribute('name') || '').replace(/\s+/g, ' ').trim()
		return `${element.tagName.toLowerCase()}${element.id && '#' + element.id}${element.className && '.' + element.className} “${text.slice(0, 40)}”`
	}

	// Colours are red, green, blue from 0 to 255 and alpha from 0 to 1.
	const parse = (text) => {
		const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number)
		return [r, g, b, a]
	}
	const over = (upper, lower) => [...[0, 1, 2].map((i) => upper[i] * upper[3] + lower[i] * (1 - upper[3])), 1]
	const canvas = matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18, 1] : [255, 255, 255, 1]
	const ground = (element) => {
		const layers = []
		for (let e = element; e; e = e.parentElement) layers.unshift(parse(getComputedStyle(e).backgroundColor))
		return layers.reduce((lower, upper) => over(upper, lower), canvas)
	}
	const luminance = (colour) => {
		const [r, g, b] = colour.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4))
		return 0.2126 * r + 0.7152 * g + 0.0722 * b
	}
	const contrast = (a, b) => {
		const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x)
		return (light + 0.05) / (dark + 0.05)
	}
	const legible = (element, style, what) => {
		const size = parseFloat(style.fontSize)
		const want = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5 // WCAG 2.2, 1.4.3
		const lower = ground(element)
		const got = contrast(over(parse(style.color), lower), lower)
		if (got < want) flaws.add(`${what} has a contrast of ${got.toFixed(2)}, want ${want}: ${name(element)}`)
	}

	const closed = [...document.querySelectorAll('details:not([open])')]
	const broad = () => {
		const wide = document.scrollingElement.scrollWidth
		if (wide > innerWidth) flaws.add(`the page is ${wide} wide in a window of ${innerWidth}`)
	}
	broad()
	for (const part of closed) part.open = true
	broad()

	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
	while (walker.nextNode()) {
		const element = walker.currentNode.parentElement
		if (!walker.currentNode.data.trim() || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue
		legible(element, getComputedStyle(element), 'text')
	}
	for (const field of document.querySelectorAll('input, textarea')) {
		if (!field.checkVisibility()) continue
		legible(field, getComputedStyle(field), 'what is typed')
		if (field.placeholder) legible(field, getComputedStyle(field, '::placeholder'), 'a placeholder')
		const edge = contrast(over(parse(getComputedStyle(field).borderTopColor), ground(field.parentElement)), ground(field.parentElement))
		if (edge < 3) flaws.add(`the edge of a field has a contrast of ${edge.toFixed(2)}, want 3: ${name(field)}`) // 1.4.11
	}
	for (const shape of document.querySelectorAll('svg .line')) {
		const got = contrast(parse(getComputedStyle(shape).stroke), ground(shape.closest('.card') ?? document.body))
		if (got < 3) flaws.add(`a line has a contrast of ${got.toFixed(2)}, want 3`)
	}
	for (const element of document.querySelectorAll('main *')) {
		const style = getComputedStyle(element)
		if (!['hidden', 'clip'].includes(style.overflowX) || element.closest('svg')) continue
		if (element.scrollWidth > element.clientWidth + 1) flaws.add(`cut off: ${name(element)}`)
	}

	for (const element of document.querySelectorAll('a[href], button, input:not([type=hidden]), textarea, select, summary, [tabindex]')) {
		if (!element.checkVisibility()) continue
		const labels = [...(element.labels ?? [])].map((label) => label.textContent).join('')
		const own = ['INPUT', 'TEXTAREA', 'SELECT', 'PRE'].includes(element.tagName) ? '' : element.textContent
		if (!(element.getAttribute('aria-label') || labels || own).trim()) flaws.add(`no label: ${name(element)}`)
		element.focus()
		const style = getComputedStyle(element)
		if (document.activeElement !== element) flaws.add(`does not take the focus: ${name(element)}`)
		else if (style.outlineStyle === 'none' || parseFloat(style.outlineWidth) < 2) flaws.add(`the focus does not show: ${name(element)}`)
		else {
			const around = ground(element.parentElement)
			const got = contrast(over(parse(style.outlineColor), around), around)
			if (got < 3) flaws.add(`the focus has a contrast of ${got.toFixed(2)}, want 3: ${name(element)}`)
			const box = element.getBoundingClientRect()
			if (box.right < 1 || box.bottom < 1 || box.left > innerWidth) flaws.add(`the focus is outside the window: ${name(element)}`)
		}
	}
	document.activeElement.blur()
	for (const part of closed) part.open = false
	scrollTo(0, 0)

	const headings = document.querySelectorAll('h1').length
	if (headings !== 1) flaws.add(`${headings} first headings`)
	const loaded = performance.getEntries().filter((e) => ['navigation', 'link', 'script', 'img', 'css'].includes(e.initiatorType))
	const bytes = loaded.reduce((sum, entry) => sum + entry.decodedBodySize, 0)
	if (!(bytes > 0 && bytes < 100_000)) flaws.add(`the page and what it loads have ${bytes} bytes`)
	return [...flaws]
})()
