'use strict'
// Everything works without this file. It renews what is marked data-live, searches while one types, and adds two keys: / and Ctrl+Enter.
{
	const every = Number(document.body.dataset.refresh || 0)
	const notice = document.getElementById('notice')
	let asking = null
	let lost = null

	// selected says whether somebody is about to copy what would be replaced.
	const selected = (part) => {
		const selection = document.getSelection()
		return selection && !selection.isCollapsed && part.contains(selection.anchorNode)
	}

	const replace = (old, fresh) => {
		if (!fresh || fresh.outerHTML === old.outerHTML || selected(old)) return
		const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute('href') : null
		old.replaceWith(document.adoptNode(fresh))
		if (focused) [...fresh.querySelectorAll('a')].find((link) => link.getAttribute('href') === focused)?.focus({ preventScroll: true })
	}

	const renew = async (address) => {
		asking?.abort()
		const mine = asking = new AbortController()
		try {
			const response = await fetch(address, { cache: 'no-store', signal: AbortSignal.any([mine.signal, AbortSignal.timeout(5000)]) })
			if (!response.ok) throw new Error(`answered ${response.status}`)
			const next = new DOMParser().parseFromString(await response.text(), 'text/html')
			if (mine.signal.aborted) return
			for (const old of document.querySelectorAll('[data-live]')) replace(old, next.getElementById(old.id))
			lost = null
			notice.hidden = true
		} catch {
			if (mine.signal.aborted) return
			lost ??= new Date()
			notice.textContent = `No answer since ${lost.toISOString().slice(11, 19)} UTC: what you see is from before.`
			notice.hidden = false
		}
	}

	const live = async () => {
		if (document.visibilityState === 'visible') await renew(location.href)
		setTimeout(live, every)
	}
	if (every) setTimeout(live, every)

	for (const form of document.querySelectorAll('form[data-search]')) {
		let timer
		const search = () => {
			const address = new URL(form.action)
			address.search = new URLSearchParams(new FormData(form))
			history.replaceState(null, '', address)
			renew(address)
		}
		form.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(search, 150) })
		form.addEventListener('submit', (event) => { event.preventDefault(); clearTimeout(timer); search() })
	}

	document.addEventListener('keydown', (event) => {
		const typing = event.target.closest('input, textarea, select')
		if (event.key === '/' && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
			const field = document.querySelector('input[type=search]')
			if (field) { event.preventDefault(); field.select() }
		}
		if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && typing) typing.form?.requestSubmit()
	})
}
