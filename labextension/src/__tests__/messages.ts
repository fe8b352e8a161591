/**
 * The texts of the package: what its calls of the translator have as their first argument, found with TypeScript's own
 * compiler. The tests here hold the calls to be translatable; the browser tests make a language of them.
 */
import * as fs from 'fs';
import * as path from 'path';
import * as ts from 'typescript';

/** A text of the package and where it is. */
export interface IMessage {
  text: string;
  /** With `_n`. */
  plural?: string;
  /** With `_p`. */
  context?: string;
  where: string;
}

export interface IFound {
  messages: IMessage[];
  /** Calls whose texts no translator could have seen. */
  faults: string[];
}

/** Which arguments of the translator's methods are texts. */
const TEXTS: Record<string, readonly ('context' | 'text' | 'plural')[]> = {
  __: ['text'],
  gettext: ['text'],
  _n: ['text', 'plural'],
  ngettext: ['text', 'plural'],
  _p: ['context', 'text'],
  pgettext: ['context', 'text'],
  _np: ['context', 'text', 'plural'],
  npgettext: ['context', 'text', 'plural']
};

const SOURCES = path.join(__dirname, '..');

/** All sources of the package, its tests aside. */
function sources(folder = SOURCES): string[] {
  return fs.readdirSync(folder, { withFileTypes: true }).flatMap(entry => {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) {
      return entry.name === '__tests__' ? [] : sources(file);
    }
    return /\.tsx?$/.test(entry.name) && !entry.name.endsWith('.d.ts') ? [file] : [];
  });
}

export function findMessages(): IFound {
  const found: IFound = { messages: [], faults: [] };
  for (const file of sources()) {
    addMessages(path.relative(SOURCES, file), fs.readFileSync(file, 'utf-8'), found);
  }
  return found;
}

export function addMessages(name: string, content: string, found: IFound): void {
  const source = ts.createSourceFile(name, content, ts.ScriptTarget.Latest, true);
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression)) {
      const { expression, name: method } = node.expression;
      const texts = TEXTS[method.text];
      if (texts && /(^|\.|_)trans(lator|Bundle)?$/.test(expression.getText(source))) {
        take(node, texts);
      }
    }
    ts.forEachChild(node, visit);
  };
  const take = (
    call: ts.CallExpression,
    texts: readonly ('context' | 'text' | 'plural')[]
  ): void => {
    const where = `${name}:${source.getLineAndCharacterOfPosition(call.getStart(source)).line + 1}`;
    const message: IMessage = { text: '', where };
    for (const [index, kind] of texts.entries()) {
      const argument = call.arguments[index];
      if (!argument || !ts.isStringLiteralLike(argument)) {
        found.faults.push(`${where}: the ${kind} of ${call.getText(source)} is no literal`);
        return;
      }
      message[kind] = argument.text;
    }
    found.messages.push(message);
  };
  visit(source);
}
