/**
 * The style sheets, as texts in one element. `@jupyter/builder` takes files of this name as they are; with others it would bundle
 * css-loader and style-loader, which are a third as large as the sheets themselves.
 */
import advice from './advice.raw.css';
import base from './base.raw.css';
import files from './files.raw.css';
import fill from './fill.raw.css';
import gauge from './gauge.raw.css';
import idle from './idle.raw.css';
import status from './status.raw.css';
import variables from './variables.raw.css';
import widgets from './widgets.raw.css';

const style = document.createElement('style');
style.textContent = [base, status, gauge, files, advice, idle, fill, variables, widgets].join('\n');
document.head.append(style);
