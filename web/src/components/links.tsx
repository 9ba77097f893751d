// Links to pages in the looks of the component library.
import { Anchor, type AnchorProps, Button, type ButtonProps, Menu, type MenuItemProps } from '@mantine/core';
import { createLink } from '@tanstack/react-router';
import { forwardRef } from 'react';

export const AnchorLink = createLink(
  forwardRef<HTMLAnchorElement, AnchorProps>((props, ref) => <Anchor ref={ref} {...props} />),
);
export const ButtonLink = createLink(
  forwardRef<HTMLAnchorElement, ButtonProps>((props, ref) => <Button component="a" ref={ref} {...props} />),
);
export const MenuLink = createLink(
  forwardRef<HTMLAnchorElement, MenuItemProps>((props, ref) => (
    <Menu.Item component="a" ref={ref} {...props} />
  )),
);
