import * as React from 'react';

/**
 * What JSX becomes here (`jsxFactory` in `tsconfig.json`), imported by every file that has some.
 *
 * React is not in the bundle: the page shares it. So `React.createElement` stays as long as it is, hundreds of times, and this
 * becomes one letter.
 */
export const h = React.createElement;
