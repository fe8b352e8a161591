/** Addresses in the server's texts: which of them may be clicked. Pure. */

/**
 * Microsoft's own pages. Not all of azure.com: under cloudapp.azure.com everybody names their machines as they like.
 */
const HOSTS =
  /^(aka\.ms|portal\.azure\.(com|us|cn)|learn\.microsoft\.com|([a-z0-9-]+\.)?microsoft\.com)$/;

/** What ends a sentence is no part of an address. */
const ENDS_SENTENCE = /[.,;:!?)\]}'"”’]+$/;

export interface ITextPart {
  text: string;
  /** Where it leads, if it may be clicked. */
  href?: string;
}

/** The address if it may be clicked: https, on a page of Microsoft's, with nothing before or behind the host's name. */
export function trusted(address: string): string | undefined {
  let url: URL;
  try {
    url = new URL(address);
  } catch {
    return undefined;
  }
  const isPlain = url.protocol === 'https:' && !url.username && !url.password && !url.port;
  return isPlain && HOSTS.test(url.hostname) ? url.href : undefined;
}

/** The text in pieces, in order; together they are the text. */
export function textParts(text: string): ITextPart[] {
  const parts: ITextPart[] = [];
  let end = 0;
  for (const match of text.matchAll(/https:\/\/[^\s<>]+/g)) {
    const address = match[0].replace(ENDS_SENTENCE, '');
    const href = trusted(address);
    if (href) {
      parts.push({ text: text.slice(end, match.index) }, { text: address, href });
      end = match.index + address.length;
    }
  }
  parts.push({ text: text.slice(end) });
  return parts.filter(part => part.text !== '');
}
