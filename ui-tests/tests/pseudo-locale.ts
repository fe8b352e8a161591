/** A language of brackets: each text of the package, as JupyterLab would get it translated, and what is not in it. */
import { Locator, Page } from '@playwright/test';

import { findMessages, IMessage } from '../../labextension/src/__tests__/messages';

const OPEN = '⟦';
const CLOSE = '⟧';
const LOCALE = 'eo';

const bracketed = (text: string): string => OPEN + text + CLOSE;

function catalogue(messages: readonly IMessage[]): Record<string, unknown> {
  const texts = messages.map(({ text, plural, context }) => [
    context === undefined ? text : `${context}\u0004${text}`,
    (plural === undefined ? [text] : [text, plural]).map(bracketed)
  ]);
  return {
    '': { domain: 'jupyter_dsvm', language: LOCALE, plural_forms: 'nplurals=2; plural=(n != 1);' },
    ...Object.fromEntries(texts)
  };
}

/** Have pages get it from now on. */
export async function speakPseudo(page: Page): Promise<void> {
  const { messages } = findMessages();
  await page.route('**/api/translations/*', route =>
    route.fulfill({ json: { data: { jupyter_dsvm: catalogue(messages) }, message: '' } })
  );
}

/**
 * What the server says in its own words, as the page hears it from now on: sentences and names. Words of one kind of
 * letters are not among them: those are codes, which no person should see.
 */
export function serversWords(page: Page): Set<string> {
  const words = new Set<string>();
  const gather = (value: unknown): void => {
    if (typeof value === 'string' && !/^[a-z_]*$/.test(value)) {
      words.add(value.trim());
    } else if (typeof value === 'object' && value !== null) {
      Object.values(value).forEach(gather);
    }
  };
  page.on('response', response => {
    if (response.url().includes('/jupyter-dsvm/')) {
      response.json().then(gather, () => undefined); // what has no body says nothing
    }
  });
  return words;
}

/** The text in brackets, as a pattern for locators. */
export const pseudo = (text: string): RegExp =>
  new RegExp(bracketed(text).replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));

/**
 * What a person can read or hear here and no translator has seen: texts and labels without what is in brackets, without
 * what the server has said, and without what `data` fits. A sentence whose parts are elements of their own is taken as a
 * whole.
 */
export async function untranslated(
  within: Locator,
  words: ReadonlySet<string>,
  data: readonly RegExp[]
): Promise<string[]> {
  const said = await within.evaluateAll(roots =>
    roots.flatMap(root => {
      const found: string[] = [];
      const inline = new Set(['A', 'B', 'CODE', 'EM', 'I', 'MARK', 'SPAN', 'STRONG']);
      const hasText = (node: Element): boolean =>
        [...node.childNodes].some(child => child.nodeType === Node.TEXT_NODE && child.textContent?.trim());
      const visit = (node: Element): void => {
        if (node.getClientRects().length === 0) {
          return;
        }
        for (const name of ['aria-label', 'aria-description', 'title', 'placeholder', 'alt']) {
          found.push(node.getAttribute(name) ?? '');
        }
        const children = [...node.children];
        const isSentence = hasText(node) && children.every(child => inline.has(child.tagName));
        if (isSentence || children.length === 0) {
          found.push(node.textContent ?? '');
          return;
        }
        for (const child of node.childNodes) {
          if (child.nodeType === Node.TEXT_NODE) {
            found.push(child.textContent ?? '');
          }
        }
        children.forEach(visit);
      };
      visit(root);
      return found;
    })
  );
  const longestFirst = [...words].sort((one, other) => other.length - one.length);
  return [...new Set(said)].filter(text => rest(text, longestFirst, data) !== '');
}

/** What is left of a text when brackets, the server's words and data are taken away. */
function rest(text: string, words: readonly string[], data: readonly RegExp[]): string {
  let outside = '';
  let depth = 0;
  for (const letter of text) {
    if (letter === OPEN) {
      depth += 1;
    } else if (letter === CLOSE) {
      depth -= 1;
    } else if (depth === 0) {
      outside += letter;
    }
  }
  for (const word of words) {
    outside = outside.replaceAll(word, '');
  }
  for (const pattern of data) {
    outside = outside.replace(pattern, '');
  }
  return outside.replace(/[\s·,.:;()…×/%~$-]|\d/g, '');
}
