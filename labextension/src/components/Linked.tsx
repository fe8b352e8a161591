import * as React from 'react';

import { h } from '../jsx';
import { textParts } from '../links';

/** A text of the server, in which pages of Microsoft's can be clicked. Everything else in it stays text. */
export function Linked(props: { text: string }): React.ReactElement {
  return (
    <>
      {textParts(props.text).map(({ text, href }, index) =>
        href ? <ExternalLink key={index} href={href} text={text} /> : text
      )}
    </>
  );
}

/** A page elsewhere: it opens beside this one, and cannot reach back. */
export function ExternalLink(props: { href: string; text: string }): React.ReactElement {
  return (
    <a className="jp-Dsvm-link" href={props.href} target="_blank" rel="noopener noreferrer">
      {props.text}
    </a>
  );
}
